import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.security.Provider;
import java.security.Security;
import java.security.cert.X509Certificate;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/**
 * A JVM's handshake, once or several times in one process, told in lines of "key: value".
 *
 * Arguments: URL or HOST:PORT, then any of --repeat N, --post, --provider CLASS (inserted as the first provider).
 * A URL is fetched with HttpsURLConnection; HOST:PORT gets a plain SSLSocket, which checks no name. Stores, protocols
 * and proxies come as system properties, as they do for the clients that this one stands for.
 */
public final class HandshakeClient {
    public static void main(String[] args) throws Exception {
        String target = args[0];
        int repeat = 1;
        boolean post = false;
        for (int i = 1; i < args.length; i++) {
            switch (args[i]) {
                case "--repeat" -> repeat = Integer.parseInt(args[++i]);
                case "--post" -> post = true;
                case "--provider" -> Security.insertProviderAt(
                    (Provider) Class.forName(args[++i]).getDeclaredConstructor().newInstance(), 1);
                default -> throw new IllegalArgumentException(args[i]);
            }
        }
        boolean well = true;
        for (int n = 0; n < repeat; n++) {
            say("attempt", n);
            try {
                if (target.contains("://")) {
                    fetch(target, post);
                } else {
                    plain(target);
                }
                say("result", "OK");
            } catch (Exception e) {
                well = false;
                say("result", "FAILED");
                for (Throwable t = e; t != null; t = t.getCause()) {
                    say("cause", t.getClass().getName() + ": " + t.getMessage());
                }
            }
        }
        System.exit(well ? 0 : 1);
    }

    private static void fetch(String url, boolean post) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
        connection.setConnectTimeout(10_000);
        connection.setReadTimeout(20_000);
        if (post) {
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            try (OutputStream body = connection.getOutputStream()) {
                body.write("{}".getBytes());
            }
        }
        say("status", connection.getResponseCode());
        if (connection instanceof HttpsURLConnection https) {
            https.getSSLSession().ifPresent(HandshakeClient::describe);
        }
        InputStream body = connection.getErrorStream();
        try (InputStream in = body != null ? body : connection.getInputStream()) {
            say("bytes", in.readAllBytes().length);
        }
    }

    private static void plain(String target) throws Exception {
        int colon = target.lastIndexOf(':');
        int port = Integer.parseInt(target.substring(colon + 1));
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        try (SSLSocket socket = (SSLSocket) factory.createSocket(target.substring(0, colon), port)) {
            socket.setSoTimeout(20_000);
            socket.startHandshake();
            describe(socket.getSession());
            socket.getOutputStream().write("GET / HTTP/1.0\r\n\r\n".getBytes());
            say("bytes", socket.getInputStream().read(new byte[8192]));
        }
    }

    private static void describe(SSLSession session) {
        say("protocol", session.getProtocol());
        say("suite", session.getCipherSuite());
        try {
            for (var certificate : session.getPeerCertificates()) {
                say("peer", ((X509Certificate) certificate).getSubjectX500Principal());
            }
        } catch (Exception e) {
            say("peer", e);
        }
    }

    private static void say(String key, Object value) {
        System.out.println(key + ": " + String.valueOf(value).replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n"));
    }
}
