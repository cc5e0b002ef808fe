import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;

/** A daemon: asked for /refresh, it goes to its one place through its one proxy, on connections that it keeps. */
class Daemon {
    public static void main(String[] args) throws Exception {
        var proxy = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0]));
        var client = HttpClient.newBuilder().proxy(ProxySelector.of(proxy)).build();
        var place = HttpRequest.newBuilder(URI.create(args[1])).build();
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/refresh", exchange -> {
            int status = 200;
            String text;
            try {
                text = "refreshed: " + client.send(place, HttpResponse.BodyHandlers.discarding()).statusCode();
            } catch (Exception wrong) {
                status = 500;
                text = "refresh failed: " + wrong;
            }
            byte[] body = text.getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(status, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        System.out.println(server.getAddress().getPort());
    }
}
