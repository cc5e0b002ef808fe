// What a Java client does when inspection goes wrong: JUnit 4, and `countersign` on the PATH, nothing else.
//
//     javac -cp junit4.jar -d out CountersignTest.java
//     java -cp out:junit4.jar:hamcrest.jar org.junit.runner.JUnitCore CountersignTest

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import java.io.IOException;
import java.io.InputStream;
import java.net.Proxy;
import java.net.URL;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.TrustManagerFactory;
import org.junit.AfterClass;
import org.junit.BeforeClass;
import org.junit.ClassRule;
import org.junit.Test;
import org.junit.rules.TemporaryFolder;

public class CountersignTest {
    @ClassRule public static TemporaryFolder folder = new TemporaryFolder();

    private static Running target;

    @BeforeClass
    public static void startTheTarget() throws Exception {
        target = start("instance", "lab", "instance", "--files", path("files"), "--mtls", "off");
    }

    @AfterClass
    public static void stopTheTarget() throws Exception {
        if (target != null) {
            stop(target);
        }
    }

    @Test
    public void aProxyWithNothingWrongIsAccepted() throws Exception {
        assertEquals(200, statusUnder("plain"));
    }

    @Test
    public void aChainWithItsRootIsAccepted() throws Exception {
        assertEquals(200, statusUnder("root-sent"));
    }

    @Test
    public void aMissingIntermediateIsRefused() throws Exception {
        assertRefusedUnder("missing-intermediate");
    }

    @Test
    public void anExpiredCertificateIsRefused() throws Exception {
        assertRefusedUnder("expired");
    }

    @Test
    public void theCertificateOfAnotherHostIsRefused() throws Exception {
        assertRefusedUnder("other-name");
    }

    private void assertRefusedUnder(String scenario) throws Exception {
        assertThrows(SSLHandshakeException.class, () -> statusUnder(scenario));
        String listed = output("ls", "--home", path("home"), "--scenario", scenario, "--json");
        assertTrue("the client was refused without ever meeting " + scenario, listed.contains("\"" + scenario + "\""));
    }

    /** What the client under test is told by the target, through a proxy under the scenario. */
    private int statusUnder(String scenario) throws Exception {
        Running proxy = start("proxy", "proxy", "--home", path("home"), "--scenario", scenario,
                "--target", "localhost:" + target.port, "--upstream-ca", path("files/root.pem"));
        Path root = Path.of(path(scenario + ".pem"));
        output("ca", "root", "--home", path("home"), "--out", root.toString());
        HttpsURLConnection connection =
                (HttpsURLConnection) new URL("https://localhost:" + proxy.port + "/").openConnection(Proxy.NO_PROXY);
        connection.setSSLSocketFactory(trusting(root).getSocketFactory());
        connection.setConnectTimeout(10_000);
        connection.setReadTimeout(10_000);
        try {
            return connection.getResponseCode();
        } finally {
            connection.disconnect();
            stop(proxy); // its recordings are whole once it has ended
        }
    }

    private static SSLContext trusting(Path root) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream in = Files.newInputStream(root)) {
            store.setCertificateEntry("root", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    private static final class Running {
        final Process process;
        final int port;

        Running(Process process, int port) {
            this.process = process;
            this.port = port;
        }
    }

    /** Start a command that listens, and wait until it does. */
    private static Running start(String name, String... command) throws Exception {
        Path ready = Path.of(path(name + "-ready.json"));
        Path log = Path.of(path(name + ".log"));
        List<String> words = new ArrayList<>(List.of("countersign"));
        words.addAll(Arrays.asList(command));
        words.addAll(List.of("--listen", "127.0.0.1:0", "--ready-file", ready.toString()));
        Process process = new ProcessBuilder(words).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        for (int tries = 0; tries < 400 && process.isAlive(); tries++) {
            if (Files.exists(ready)) {
                Matcher port = Pattern.compile("\"port\": (\\d+)").matcher(Files.readString(ready));
                assertTrue(port.find());
                return new Running(process, Integer.parseInt(port.group(1)));
            }
            Thread.sleep(50);
        }
        process.destroyForcibly();
        throw new IOException(String.join(" ", words) + " did not start: " + Files.readString(log));
    }

    private static void stop(Running running) throws InterruptedException {
        running.process.destroy();
        if (!running.process.waitFor(10, TimeUnit.SECONDS)) {
            running.process.destroyForcibly();
        }
    }

    private static String output(String... command) throws Exception {
        List<String> words = new ArrayList<>(List.of("countersign"));
        words.addAll(Arrays.asList(command));
        Process process = new ProcessBuilder(words).redirectErrorStream(true).start();
        String told = new String(process.getInputStream().readAllBytes());
        assertEquals(told, 0, process.waitFor());
        return told;
    }

    private static String path(String name) {
        return folder.getRoot().toPath().resolve(name).toString();
    }
}
