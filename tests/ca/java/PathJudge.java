import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashSet;
import java.util.Set;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;
import sun.security.util.HostnameChecker;

/**
 * What JSSE thinks of many chains, in one JVM. Each line of the file named says: a directory, seconds since 1970, the role
 * of who shows the chain, its host. The directory has what was sent as 0.der, 1.der and so on, and the trusted roots as
 * root-0.der and so on. Printed is, for each, the directory and either "accepts" or the exceptions, outermost first.
 *
 * This is the trust manager that a JSSE client asks, with a clock of our own, and then the checker of host names that
 * HttpsURLConnection asks.
 */
public class PathJudge {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] words = line.split("\t");
            System.out.println(words[0] + "\t" + judge(Path.of(words[0]), Long.parseLong(words[1]), words[2], words[3]));
        }
    }

    static String judge(Path directory, long seconds, String role, String host) {
        try {
            Set<TrustAnchor> anchors = new HashSet<>();
            for (X509Certificate root : read(directory, "root-"))
                anchors.add(new TrustAnchor(root, null));
            PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors, new X509CertSelector());
            parameters.setRevocationEnabled(false);
            parameters.setDate(new Date(seconds * 1000));
            TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
            factory.init(new CertPathTrustManagerParameters(parameters));
            X509TrustManager manager = (X509TrustManager) factory.getTrustManagers()[0];
            X509Certificate[] chain = read(directory, "").toArray(new X509Certificate[0]);
            if (role.equals("client")) {
                manager.checkClientTrusted(chain, "UNKNOWN");
            } else {
                manager.checkServerTrusted(chain, "UNKNOWN");
                HostnameChecker.getInstance(HostnameChecker.TYPE_TLS).match(host, chain[0]);
            }
            return "accepts";
        } catch (Throwable wrong) {
            StringBuilder said = new StringBuilder();
            for (Throwable each = wrong; each != null; each = each.getCause())
                said.append(said.isEmpty() ? "" : " | ").append(each.getClass().getSimpleName()).append(": ")
                    .append(String.valueOf(each.getMessage()).replaceAll("\\s+", " "));
            return said.toString();
        }
    }

    static ArrayList<X509Certificate> read(Path directory, String prefix) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        ArrayList<X509Certificate> found = new ArrayList<>();
        for (int number = 0; Files.exists(directory.resolve(prefix + number + ".der")); number++) {
            byte[] encoded = Files.readAllBytes(directory.resolve(prefix + number + ".der"));
            found.add((X509Certificate) factory.generateCertificate(new ByteArrayInputStream(encoded)));
        }
        return found;
    }
}
