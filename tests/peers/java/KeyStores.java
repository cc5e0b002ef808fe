import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.Key;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.Provider;
import java.security.Security;
import java.security.cert.Certificate;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import javax.crypto.Cipher;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.PBEParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * What a JVM does with key stores: many commands in one run, since starting a JVM costs more than all of them.
 *
 * Each line of standard input is a command, its words split by tabs; a password of one "-" is none at all. What a command
 * has to say are lines of words split by tabs, then "ok", or "failed" and the exception with its causes.
 */
public final class KeyStores {
    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            Security.addProvider((Provider) Class.forName(args[0]).getDeclaredConstructor().newInstance());
        }
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                run(line.split("\t", -1));
                say("ok");
            } catch (Throwable e) {
                StringBuilder told = new StringBuilder();
                for (Throwable t = e; t != null; t = t.getCause()) {
                    told.append(told.length() == 0 ? "" : " <- ").append(t);
                }
                say("failed", told.toString());
            }
        }
    }

    private static void run(String[] words) throws Exception {
        switch (words[0]) {
            case "list" -> list(load(words[1], words[2], words[3]), password(words[4]));
            case "copy" -> copy(words);
            case "scrypt" -> scrypt(words);
            case "secret" -> secret(words);
            case "handshake" -> handshake(words);
            case "pbe" -> pbe(words);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private static char[] password(String word) {
        return word.equals("-") ? null : word.toCharArray();
    }

    private static KeyStore load(String type, String file, String password) throws Exception {
        KeyStore store = KeyStore.getInstance(type);
        try (FileInputStream in = new FileInputStream(file)) {
            store.load(in, password(password));
        }
        return store;
    }

    /** list TYPE FILE PASSWORD KEYPASSWORD: alias, kind, milliseconds, digest of the key, digests of the certificates. */
    private static void list(KeyStore store, char[] keyPassword) throws Exception {
        List<String> aliases = Collections.list(store.aliases());
        Collections.sort(aliases);
        for (String alias : aliases) {
            if (store.isCertificateEntry(alias)) {
                say("certificate", alias, date(store, alias), "", digest(store.getCertificate(alias).getEncoded()));
                continue;
            }
            Key key = store.getKey(alias, keyPassword);
            Certificate[] chain = store.getCertificateChain(alias);
            String kind = chain == null ? "secret" : "key";
            String[] digests = chain == null ? new String[0] : new String[chain.length];
            for (int i = 0; i < digests.length; i++) {
                digests[i] = digest(chain[i].getEncoded());
            }
            say(kind, alias, date(store, alias), digest(key.getEncoded()), String.join(" ", digests));
        }
    }

    private static String date(KeyStore store, String alias) throws Exception {
        return Long.toString(store.getCreationDate(alias).getTime());
    }

    /** copy TYPE FILE PASSWORD KEYPASSWORD TYPE FILE PASSWORD KEYPASSWORD: every entry of one store into a new one. */
    private static void copy(String[] words) throws Exception {
        KeyStore from = load(words[1], words[2], words[3]);
        KeyStore to = KeyStore.getInstance(words[5]);
        to.load(null, null);
        fill(from, password(words[4]), to, password(words[8]));
        try (FileOutputStream out = new FileOutputStream(words[6])) {
            to.store(out, password(words[7]));
        }
    }

    private static void fill(KeyStore from, char[] keyPassword, KeyStore to, char[] newPassword) throws Exception {
        for (String alias : Collections.list(from.aliases())) {
            if (from.isCertificateEntry(alias)) {
                to.setCertificateEntry(alias, from.getCertificate(alias));
            } else {
                to.setKeyEntry(alias, from.getKey(alias, keyPassword), newPassword, from.getCertificateChain(alias));
            }
        }
    }

    /** scrypt TYPE FILE PASSWORD N R P FILE: the same into a BCFKS store that uses scrypt; by name, as BC may be missing. */
    private static void scrypt(String[] words) throws Exception {
        KeyStore from = load(words[1], words[2], words[3]);
        KeyStore to = KeyStore.getInstance("BCFKS");
        to.load(null, null);
        fill(from, password(words[3]), to, password(words[3]));
        Class<?> builder = Class.forName("org.bouncycastle.crypto.util.ScryptConfig$Builder");
        Object made = builder.getConstructor(int.class, int.class, int.class).newInstance(
            Integer.parseInt(words[4]), Integer.parseInt(words[5]), Integer.parseInt(words[6]));
        Object config = builder.getMethod("build").invoke(made);
        Class<?> parameter = Class.forName("org.bouncycastle.jcajce.BCFKSLoadStoreParameter$Builder");
        try (FileOutputStream out = new FileOutputStream(words[7])) {
            Object started = parameter.getConstructor(java.io.OutputStream.class, char[].class)
                .newInstance(out, password(words[3]));
            parameter.getMethod("withStorePBKDFConfig", Class.forName("org.bouncycastle.crypto.util.PBKDFConfig"))
                .invoke(started, config);
            to.store((KeyStore.LoadStoreParameter) parameter.getMethod("build").invoke(started));
        }
    }

    /** secret TYPE FILE PASSWORD ALIAS: a secret AES key more. */
    private static void secret(String[] words) throws Exception {
        KeyStore store = load(words[1], words[2], words[3]);
        byte[] key = new byte[32];
        Arrays.fill(key, (byte) 0x5a);
        store.setKeyEntry(words[4], new SecretKeySpec(key, "AES"), password(words[3]), null);
        try (FileOutputStream out = new FileOutputStream(words[2])) {
            store.store(out, password(words[3]));
        }
    }

    /** handshake SERVER CLIENT PROTOCOL, each side TYPE FILE PASSWORD KEYPASSWORD TRUSTTYPE TRUSTFILE TRUSTPASSWORD. */
    private static void handshake(String[] words) throws Exception {
        SSLContext server = context(Arrays.copyOfRange(words, 1, 8));
        SSLContext client = context(Arrays.copyOfRange(words, 8, 15));
        try (SSLServerSocket listener = (SSLServerSocket) server.getServerSocketFactory()
                .createServerSocket(0, 1, java.net.InetAddress.getLoopbackAddress())) {
            listener.setNeedClientAuth(true);
            listener.setSoTimeout(20_000);
            listener.setEnabledProtocols(new String[] {words[15]});
            Throwable[] failure = new Throwable[1];
            Thread answering = new Thread(() -> {
                try (SSLSocket socket = (SSLSocket) listener.accept()) {
                    socket.setSoTimeout(20_000);
                    int read = socket.getInputStream().read();
                    socket.getOutputStream().write(read + 1);
                    socket.getOutputStream().flush();
                } catch (Exception e) {
                    failure[0] = e;
                }
            });
            answering.start();
            try (SSLSocket socket = (SSLSocket) client.getSocketFactory()
                    .createSocket(java.net.InetAddress.getLoopbackAddress(), listener.getLocalPort())) {
                socket.setSoTimeout(20_000);
                socket.getOutputStream().write(41);
                socket.getOutputStream().flush();
                if (socket.getInputStream().read() != 42) {
                    throw new IllegalStateException("no answer", failure[0]);
                }
                say("chain", Integer.toString(socket.getSession().getPeerCertificates().length));
                say("own", Integer.toString(socket.getSession().getLocalCertificates().length));
            } finally {
                answering.join(25_000);
            }
            if (failure[0] != null) {
                throw new IllegalStateException("server", failure[0]);
            }
        }
    }

    private static SSLContext context(String[] words) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(load(words[0], words[1], words[2]), password(words[3]));
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(load(words[4], words[5], words[6]));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    /** pbe SALT ITERATIONS PASSWORD HEX: what JCEKS keys are encrypted with, as the JVM does it. */
    private static void pbe(String[] words) throws Exception {
        HexFormat hex = HexFormat.of();
        Cipher cipher = Cipher.getInstance("PBEWithMD5AndTripleDES");
        Key key = SecretKeyFactory.getInstance("PBEWithMD5AndTripleDES").generateSecret(new PBEKeySpec(words[3].toCharArray()));
        cipher.init(Cipher.ENCRYPT_MODE, key, new PBEParameterSpec(hex.parseHex(words[1]), Integer.parseInt(words[2])));
        say("encrypted", hex.formatHex(cipher.doFinal(hex.parseHex(words[4]))));
    }

    private static String digest(byte[] data) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
    }

    private static void say(String... words) {
        System.out.println(String.join("\t", words).replace("\r", "\\r").replace("\n", "\\n"));
        System.out.flush();
    }
}
