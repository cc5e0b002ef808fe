import javax.net.ssl.HttpsURLConnection;

/** HandshakeClient with a HostnameVerifier that likes no name, as applications have that check names themselves. */
public final class RefusingVerifier {
    public static void main(String[] args) throws Exception {
        HttpsURLConnection.setDefaultHostnameVerifier((name, session) -> false);
        HandshakeClient.main(args);
    }
}
