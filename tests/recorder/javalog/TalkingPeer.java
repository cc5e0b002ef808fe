import java.io.FileInputStream;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.security.KeyStore;
import java.security.Provider;
import java.security.Security;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;
import java.util.List;

/**
 * One side of TLS conversations, so that a JVM's own debug log of it can be read.
 *
 * Arguments: client HOST PORT or server, then any of --bc (Bouncy Castle's JSSE in place of the JDK's),
 * --protocols A,B, --alpn A,B, --count N, --need or --want (a client certificate), --https (check the host name),
 * --timeout MS, --threads (each conversation on a thread of its own, with a name that is hard to read), --quiet (the
 * client closes without having sent anything). Stores come as the system properties that JSSE knows. The server says
 * "port N" when it is ready; each side says "ok" or the exception for each conversation.
 */
public final class TalkingPeer {
    private static boolean bouncyCastle, https, threads, quiet;
    private static String need = "";
    private static String[] protocols = {}, alpn = {};
    private static int count = 1, timeout = 10_000;

    public static void main(String[] args) throws Exception {
        int at = args[0].equals("client") ? 3 : 1;
        for (int i = at; i < args.length; i++) {
            switch (args[i]) {
                case "--bc" -> bouncyCastle = true;
                case "--https" -> https = true;
                case "--threads" -> threads = true;
                case "--quiet" -> quiet = true;
                case "--need", "--want" -> need = args[i];
                case "--protocols" -> protocols = args[++i].split(",");
                case "--alpn" -> alpn = args[++i].split(",");
                case "--count" -> count = Integer.parseInt(args[++i]);
                case "--timeout" -> timeout = Integer.parseInt(args[++i]);
                default -> throw new IllegalArgumentException(args[i]);
            }
        }
        SSLContext context = context();
        if (args[0].equals("client")) {
            Thread[] running = new Thread[count];
            for (int n = 0; n < count; n++) {
                Runnable talk = () -> told(() -> client(context, args[1], Integer.parseInt(args[2])));
                if (threads) {
                    running[n] = new Thread(talk, "Worker|" + n + "[node, a] (x)");
                    running[n].start();
                } else {
                    talk.run();
                }
            }
            for (int n = 0; threads && n < count; n++) {
                running[n].join();
            }
        } else {
            server(context);
        }
    }

    private interface Talk {
        void go() throws Exception;
    }

    private static void told(Talk talk) {
        try {
            talk.go();
            System.out.println("ok");
        } catch (Exception e) {
            System.out.println(String.valueOf(e).replace("\n", " "));
        }
    }

    private static SSLContext context() throws Exception {
        if (bouncyCastle) {
            String jce = "org.bouncycastle.jce.provider.BouncyCastleProvider";
            String jsse = "org.bouncycastle.jsse.provider.BouncyCastleJsseProvider";
            Security.addProvider((Provider) Class.forName(jce).getDeclaredConstructor().newInstance());
            Security.addProvider((Provider) Class.forName(jsse).getDeclaredConstructor().newInstance());
        }
        String from = bouncyCastle ? "BCJSSE" : "SunJSSE";
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX", from);
        trust.init(store("trustStore"));
        KeyManagerFactory keys = KeyManagerFactory.getInstance(bouncyCastle ? "PKIX" : "SunX509", from);
        char[] password = System.getProperty("javax.net.ssl.keyStorePassword", "").toCharArray();
        keys.init(store("keyStore"), password);
        SSLContext context = SSLContext.getInstance("TLS", from);
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static KeyStore store(String which) throws Exception {
        String file = System.getProperty("javax.net.ssl." + which);
        KeyStore store = KeyStore.getInstance("PKCS12");
        char[] password = System.getProperty("javax.net.ssl." + which + "Password", "").toCharArray();
        try (InputStream in = file == null ? null : new FileInputStream(file)) {
            store.load(in, password);
        }
        return store;
    }

    private static void client(SSLContext context, String host, int port) throws Exception {
        Socket plain = new Socket();
        plain.connect(new InetSocketAddress(host, port), timeout);
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, host, port, true)) {
            socket.setSoTimeout(timeout);
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setServerNames(List.of(new SNIHostName(host)));
            if (https) {
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
            }
            apply(parameters);
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            if (quiet) {
                return;
            }
            socket.getOutputStream().write("hello\n".getBytes());
            socket.getOutputStream().flush();
            if (socket.getInputStream().read() < 0) {
                throw new java.io.EOFException("nothing came");
            }
        }
    }

    private static void server(SSLContext context) throws Exception {
        try (SSLServerSocket listening = (SSLServerSocket) context.getServerSocketFactory().createServerSocket()) {
            listening.bind(new InetSocketAddress("127.0.0.1", 0));
            SSLParameters parameters = listening.getSSLParameters();
            apply(parameters);
            if (need.equals("--need")) {
                parameters.setNeedClientAuth(true);
            } else if (need.equals("--want")) {
                parameters.setWantClientAuth(true);
            }
            listening.setSSLParameters(parameters);
            System.out.println("port " + listening.getLocalPort());
            for (int n = 0; n < count; n++) {
                try (SSLSocket socket = (SSLSocket) listening.accept()) {
                    told(() -> {
                        socket.setSoTimeout(timeout);
                        socket.startHandshake();
                        if (socket.getInputStream().read() < 0) {
                            throw new java.io.EOFException("nothing came");
                        }
                        socket.getOutputStream().write("olleh\n".getBytes());
                    });
                }
            }
        }
    }

    private static void apply(SSLParameters parameters) {
        if (protocols.length > 0) {
            parameters.setProtocols(protocols);
        }
        if (alpn.length > 0) {
            parameters.setApplicationProtocols(alpn);
        }
    }
}
