import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.File;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

/**
 * The MID web server extension as far as TLS goes: an HTTPS server of the JVM with the host's certificate from a store
 * of its own, of whatever type (webserver_keystore.jceks, the unified keystore).
 *
 *   java MidWebServer.java KEYSTORE PASSWORD [PORT]
 *
 * It prints "listening on PORT" and answers every request until it is ended. What it sends is what the store holds: a
 * store with just the host's certificate makes a server without its intermediate.
 */
public final class MidWebServer {
    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("MidWebServer: expected KEYSTORE PASSWORD [PORT]");
            System.exit(2);
        }
        char[] password = args[1].toCharArray();
        KeyStore store = KeyStore.getInstance(new File(args[0]), password);
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, password);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        int port = args.length > 2 ? Integer.parseInt(args[2]) : 0;
        HttpsServer server = HttpsServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(context));
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            byte[] body = ("received " + exchange.getRequestURI().getPath() + "\n").getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, body.length);
            try (OutputStream out = exchange.getResponseBody()) {
                out.write(body);
            }
        });
        server.start();
        System.out.println("listening on " + server.getAddress().getPort());
    }
}
