import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** A client on java.net.http, which takes proxies and trust from the same properties as the older one. */
public final class HttpClientClient {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder().proxy(java.net.ProxySelector.getDefault()).build();
        try {
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0])).build();
            System.out.println("status: " + client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        } catch (Exception e) {
            for (Throwable t = e; t != null; t = t.getCause()) {
                System.out.println("cause: " + t);
            }
            System.exit(1);
        }
    }
}
