import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.KeyStoreException;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.Provider;
import java.security.Security;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Hashtable;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.naming.Context;
import javax.naming.NamingException;
import javax.naming.ldap.InitialLdapContext;
import javax.naming.ldap.StartTlsRequest;
import javax.naming.ldap.StartTlsResponse;
import javax.net.SocketFactory;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509ExtendedTrustManager;

/**
 * A client that connects as the articles say a MID Server does, and says what goes wrong in their words.
 *
 * It asks the instance for InstanceInfo, fetches the MID Security Policy, asks for the file sync snapshot on a new
 * connection, and, where --ldap is given, binds to a directory as an LDAPProbe does. What it checks of a server's
 * certificate is that of its release (--profile); a policy at the instance changes it, and so does config.xml. Whether
 * a real MID Server behaves so in each detail, nobody has measured here: the table of releases, the empty answer to a
 * CertificateRequest without its issuer or under a changed policy, and the log lines are the articles' claims.
 *
 * Stores, proxies and hosts come as options or as the JVM's system properties, so it runs under "countersign run" too:
 *
 *   java MidClient.java --url https://instance.lab.test:9443 --profile quebec --truststore trust.p12
 *
 * Options: --url URL, --profile RELEASE (or several with commas between, or all), --provider sun|bc|fips (Bouncy Castle
 * on the class path), --truststore FILE, --keystore FILE|none, --store-password PASSWORD, --proxy HOST:PORT, --config
 * FILE (config.xml), --set NAME=VALUE (a parameter of config.xml), --key-manager mid|stock, --ldap HOST:PORT, --start-tls
 * (in clear first, and LDAP's StartTLS then), --plain (one GET of the URL, no SOAP), --ocsp-off (the workaround that turns
 * the OCSP check off, and the check of the chain with it: one switch).
 * Exit code: 0 when all went well, 1 when something did not, 2 for wrong usage.
 */
public final class MidClient {
    /** What a release checks of the certificates that it meets (KB "MID Servers and Certificates", 1). */
    record Checks(boolean revocation, boolean chain, boolean hostname) {
        boolean all() {
            return revocation && chain && hostname;
        }
    }

    private static final Map<String, Checks> RELEASES = new LinkedHashMap<>();

    static {
        RELEASES.put("new-york", new Checks(false, false, false));
        RELEASES.put("orlando", new Checks(true, false, false));
        RELEASES.put("orlando-p7a", new Checks(true, true, false));
        RELEASES.put("paris", new Checks(true, false, false));
        RELEASES.put("paris-p1hf3a", new Checks(true, true, false));
        RELEASES.put("paris-p2", new Checks(true, true, false));
        RELEASES.put("quebec", new Checks(true, true, true));
    }

    private static final List<String> FLAGS = List.of("plain", "start-tls", "ocsp-off");
    private static final String BOOTSTRAP = "mid.ssl.bootstrap.default.check_cert_";
    private static final int CONNECT = 10_000;
    private static final int READ = 40_000;  // longer than a responder that hangs, OCSP and then CRL
    private static final String SOAP = "<SOAP-ENV:Envelope xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\""
        + " xmlns:SOAP-ENC=\"http://schemas.xmlsoap.org/soap/encoding/\""
        + " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""
        + " xmlns:tns=\"http://www.service-now.com/GetMIDInfo\" xmlns:m=\"http://www.service-now.com\""
        + " xmlns:SOAP-ENV=\"http://schemas.xmlsoap.org/soap/envelope/\""
        + " SOAP-ENV:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\">"
        + "<SOAP-ENV:Body><m:execute>%s</m:execute></SOAP-ENV:Body></SOAP-ENV:Envelope>";

    private final Map<String, String> options;
    private final Map<String, String> parameters;
    private final boolean fips;
    private final char[] password;
    private final KeyStore trusted;
    private final KeyStore own;
    private final Checks release;
    private Checks checks;
    private boolean policyChanged;
    private boolean well = true;

    private MidClient(String profile, Map<String, String> options, Map<String, String> parameters, Stores stores) {
        this.options = options;
        this.parameters = parameters;
        fips = "fips".equals(options.get("provider"));
        password = stores.password;
        trusted = stores.trusted;
        own = stores.own;
        Checks table = RELEASES.get(profile);
        release = options.containsKey("ocsp-off") ? new Checks(false, false, table.hostname) : table;
        checks = new Checks(
            bootstrap("revocation", release.revocation),
            bootstrap("chain", release.chain),
            bootstrap("hostname", release.hostname));
    }

    public static void main(String[] args) throws Exception {
        System.exit(run(args));
    }

    /** The exit code. What it changes in the JVM it changes back. */
    static int run(String[] args) throws Exception {
        Map<String, String> options = new LinkedHashMap<>();
        Map<String, String> parameters = new LinkedHashMap<>();
        List<Provider> more;
        Stores stores;
        try {
            read(args, options, parameters);
            String provider = options.getOrDefault("provider", "sun");
            more = bouncyCastle(provider);
            stores = Stores.load(options, more, provider.equals("fips"));
        } catch (IllegalArgumentException e) {
            System.err.println("MidClient: " + e.getMessage());
            return 2;
        } catch (IOException | GeneralSecurityException e) {
            severe("StartupSequencer", "Unable to load keystore: " + e);
            return 1;
        }
        for (int n = 0; n < more.size(); n++) {
            Security.insertProviderAt(more.get(n), n + 1);
        }
        try {
            boolean well = true;
            List<String> profiles = profiles(options);
            for (String profile : profiles) {
                if (profiles.size() > 1) {
                    say("# " + profile);
                }
                well &= new MidClient(profile, options, parameters, stores).run();
            }
            return well ? 0 : 1;
        } finally {
            more.forEach(each -> Security.removeProvider(each.getName()));
        }
    }

    private static List<String> profiles(Map<String, String> options) {
        String named = options.getOrDefault("profile", "quebec");
        return named.equals("all") ? List.copyOf(RELEASES.keySet()) : List.of(named.split(","));
    }

    private static void read(String[] args, Map<String, String> options, Map<String, String> parameters)
        throws IOException {
        List<String> known = List.of("url", "profile", "provider", "truststore", "keystore", "store-password", "proxy",
            "config", "set", "key-manager", "ldap");
        for (int i = 0; i < args.length; i++) {
            String name = args[i].startsWith("--") ? args[i].substring(2) : "";
            if (FLAGS.contains(name)) {
                options.put(name, "");
                continue;
            }
            if (!known.contains(name) || i + 1 == args.length) {
                throw new IllegalArgumentException("expected --" + String.join(", --", FLAGS) + " or one of --" + String.join(" V, --", known)
                    + " V; got " + args[i]);
            }
            String value = args[++i];
            if (name.equals("set")) {
                int equals = value.indexOf('=');
                if (equals < 1) {
                    throw new IllegalArgumentException("--set takes NAME=VALUE; got " + value);
                }
                parameters.put(value.substring(0, equals), value.substring(equals + 1));
            } else {
                options.put(name, value);
            }
        }
        if (options.containsKey("config")) {
            String text = Files.readString(Path.of(options.get("config"))).replaceAll("(?s)<!--.*?-->", "");
            Matcher found = Pattern.compile("<parameter\\s+name=\"([^\"]+)\"\\s+value=\"([^\"]*)\"").matcher(text);
            while (found.find()) {
                parameters.putIfAbsent(found.group(1), found.group(2));
            }
        }
        for (String profile : profiles(options)) {
            oneOf(profile, "--profile", RELEASES.keySet());
        }
        oneOf(options.getOrDefault("provider", "sun"), "--provider", List.of("sun", "bc", "fips"));
        oneOf(options.getOrDefault("key-manager", "mid"), "--key-manager", List.of("mid", "stock"));
        if (!options.containsKey("url") && !options.containsKey("ldap")) {
            throw new IllegalArgumentException("expected --url https://HOST or --ldap HOST:PORT");
        }
        if (options.getOrDefault("url", "https:").startsWith("http:")) {
            throw new IllegalArgumentException("HTTP to the instance is forbidden: expected a https:// URL");
        }
    }

    private static void oneOf(String value, String option, Iterable<String> known) {
        for (String each : known) {
            if (each.equals(value)) {
                return;
            }
        }
        throw new IllegalArgumentException(option + " takes one of " + String.join(", ", known) + "; got " + value);
    }

    /** To be the first providers; "fips" has its JSSE too, whose approved mode approximates bc-fips. */
    private static List<Provider> bouncyCastle(String provider) {
        if (provider.equals("sun")) {
            return List.of();
        }
        if (provider.equals("bc") && System.getProperty("jdk.tls.namedGroups") == null) {
            System.setProperty("jdk.tls.namedGroups", "secp256r1");  // else "BCXDHPublicKey cannot be cast" in TLS 1.3
        }
        try {
            Provider crypto = (Provider) Class.forName("org.bouncycastle.jce.provider.BouncyCastleProvider")
                .getDeclaredConstructor().newInstance();
            if (!provider.equals("fips")) {
                return List.of(crypto);
            }
            Security.addProvider(crypto);  // its JSSE looks for it by name
            Provider jsse = (Provider) Class.forName("org.bouncycastle.jsse.provider.BouncyCastleJsseProvider")
                .getConstructor(String.class).newInstance("fips:BC");
            Security.removeProvider("BC");
            return List.of(crypto, jsse);
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(
                "Bouncy Castle is not on the class path: expected -cp bcprov.jar:bcutil.jar:bctls.jar (" + e + ")");
        }
    }

    private boolean bootstrap(String check, boolean otherwise) {
        String given = parameters.get(BOOTSTRAP + check);
        return given == null ? otherwise : Boolean.parseBoolean(given);
    }

    // -- stores ---------------------------------------------------------------------------------------------------

    /** What is trusted and what is shown, loaded before Bouncy Castle is first: it reads no PKCS12 of Java's. */
    private record Stores(KeyStore trusted, KeyStore own, char[] password) {
        static Stores load(Map<String, String> options, List<Provider> more, boolean fips)
            throws IOException, GeneralSecurityException {
            char[] password = options.getOrDefault(
                "store-password", System.getProperty("javax.net.ssl.trustStorePassword", "changeit")).toCharArray();
            String trust = options.getOrDefault("truststore", System.getProperty("javax.net.ssl.trustStore"));
            String keys = options.getOrDefault("keystore", System.getProperty("javax.net.ssl.keyStore", "none"));
            KeyStore own = keys.equals("none") ? null : store(keys, password, more);
            if (own != null && fips && !own.getType().equals("BCFKS")) {
                throw new KeyStoreException(own.getType() + " not found");  // KB on mTLS in FIPS enforced mode
            }
            return new Stores(trust == null ? null : store(trust, password, more), own, password);
        }

        /** A store of whatever type, by its content: agent_keystore has no suffix. */
        private static KeyStore store(String name, char[] password, List<Provider> more)
            throws IOException, GeneralSecurityException {
            File file = new File(name);
            try {
                return KeyStore.getInstance(file, password);
            } catch (KeyStoreException unrecognized) {
                try (InputStream in = Files.newInputStream(file.toPath())) {
                    if (in.read() != 0x30) {  // BCFKS, like all that is left, is a SEQUENCE of DER
                        throw new IllegalArgumentException(name + " is no key store: expected PKCS12, JKS or BCFKS");
                    }
                }
                KeyStore store = more.isEmpty()
                    ? KeyStore.getInstance("BCFKS") : KeyStore.getInstance("BCFKS", more.get(0));
                try (InputStream in = Files.newInputStream(file.toPath())) {
                    store.load(in, password);
                }
                return store;
            }
        }
    }

    private SSLContext context() throws Exception {
        KeyManager[] keys = null;
        if (own != null) {
            KeyManagerFactory factory = KeyManagerFactory.getInstance(fips ? "PKIX" : "NewSunX509");
            factory.init(own, password);
            X509ExtendedKeyManager stock = (X509ExtendedKeyManager) factory.getKeyManagers()[0];
            boolean mid = options.getOrDefault("key-manager", "mid").equals("mid");
            keys = new KeyManager[] {mid ? new MidKeys(stock, policyChanged) : stock};
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(trusted);
        X509ExtendedTrustManager stock = (X509ExtendedTrustManager) factory.getTrustManagers()[0];
        SSLContext context = fips ? SSLContext.getInstance("TLS", "BCJSSE") : SSLContext.getInstance("TLS");
        context.init(keys, new TrustManager[] {new MidTrust(stock, checks)}, null);
        return context;
    }

    // -- what it does ---------------------------------------------------------------------------------------------

    private boolean run() throws Exception {
        if (options.containsKey("url")) {
            String url = options.get("url").replaceAll("/+$", "");
            if (options.containsKey("plain")) {
                javascriptProbe(url + "/");
            } else if (instanceInfo(url)) {
                policy(url);
                fileSync(url);
            }
        }
        if (options.containsKey("ldap")) {
            ldapProbe(options.get("ldap"));
        }
        return well;
    }

    private boolean instanceInfo(String instance) throws Exception {
        String url = instance + "/InstanceInfo.do?SOAP";
        Answer answer = ask(url, String.format(SOAP, ""));
        if (answer.problem != null) {
            warning("StartupSequencer", "Unable to get InstanceInfo: " + answer.problem);
            say("(Network Configuration issue) Please check that the MID server can ping the instance: " + instance + "/");
            say("You may also need to configure the network that the MID server uses to allow traffic over TCP port 443.");
            well = false;
        } else if (answer.status != 200) {
            refused("StartupSequencer", url, answer);
        } else {
            say("StartupSequencer InstanceInfo received");
        }
        return answer.status == 200;
    }

    /** From Quebec on; what config.xml says of a check stands before what the policy says. */
    private void policy(String instance) throws Exception {
        if (!release.hostname) {
            return;
        }
        Answer answer = ask(instance + "/mid_cert_check_policy.do?SOAP", String.format(SOAP, ""));
        if (answer.status != 200 || !answer.body.contains("<getRecordsResult>")) {
            return;
        }
        Checks said = new Checks(
            bootstrap("revocation", answer.says("check_cert_revocation")),
            bootstrap("chain", answer.says("check_cert_chain")),
            bootstrap("hostname", answer.says("check_cert_hostname")));
        say("StartupSequencer MID Security Policy received: " + said);
        checks = said;
        policyChanged = !said.all();
    }

    private void fileSync(String instance) throws Exception {
        String url = instance + "/MIDFileSyncSnapshot.do?SOAP";
        String thread = "File sync worker: ecc_agent_jar";
        String request = String.format(SOAP, "<attachments xsi:type=\"xsd:string\">true</attachments>"
            + "<type xsi:type=\"xsd:string\">ecc_agent_jar</type>");
        Answer answer = ask(url, request);
        if (answer.problem != null) {
            warning(thread, answer.problem);
            severe(thread, "SOAP Request: " + request);
            severe(thread, "SOAP Response: Status code=0, Response body=null");
            warning(thread, "Could not get file sync snapshot because: " + answer.problem);
            well = false;
        } else if (answer.status != 200) {
            refused(thread, url, answer);
        } else {
            say(thread + " Snapshot received");
        }
    }

    private void javascriptProbe(String url) throws Exception {
        Answer answer = ask(url, null);
        if (answer.problem != null) {
            warning("Worker-Standard:JavascriptProbe", answer.problem.replaceFirst("^Request not sent to uri= \\S+ : ", ""));
            well = false;
        } else {
            say("Worker-Standard:JavascriptProbe Status code=" + answer.status);
        }
    }

    private void refused(String thread, String url, Answer answer) {
        well = false;
        if (answer.status == 401) {
            String user = own == null ? parameters.get("mid.instance.username") : null;
            severe(thread, "Could not authenticate user '" + user + "' on the ServiceNow instance");
        } else {
            severe(thread, "Method failed: (" + URI.create(url).getPath() + ") with code: " + answer.status);
        }
    }

    /** Each request on a connection and a handshake of its own. */
    private Answer ask(String url, String body) throws Exception {
        HttpsURLConnection connection = (HttpsURLConnection) URI.create(url).toURL().openConnection(proxy());
        connection.setSSLSocketFactory(context().getSocketFactory());
        if (!checks.hostname) {
            connection.setHostnameVerifier((host, session) -> true);
        }
        connection.setConnectTimeout(CONNECT);
        connection.setReadTimeout(READ);
        connection.setInstanceFollowRedirects(false);
        connection.setRequestProperty("Connection", "close");
        String user = parameters.get("mid.instance.username");
        if (own == null && user != null) {
            String pair = user + ":" + parameters.getOrDefault("mid.instance.password", "");
            connection.setRequestProperty(
                "Authorization", "Basic " + Base64.getEncoder().encodeToString(pair.getBytes(StandardCharsets.UTF_8)));
        }
        try {
            if (body != null) {
                connection.setRequestMethod("POST");
                connection.setDoOutput(true);
                connection.setRequestProperty("Content-Type", "text/xml; charset=UTF-8");
                try (OutputStream out = connection.getOutputStream()) {
                    out.write(body.getBytes(StandardCharsets.UTF_8));
                }
            }
            int status = connection.getResponseCode();
            InputStream there = status < 400 ? connection.getInputStream() : connection.getErrorStream();
            try (InputStream in = there == null ? InputStream.nullInputStream() : there) {
                return new Answer(status, new String(in.readAllBytes(), StandardCharsets.UTF_8), null);
            }
        } catch (IOException e) {
            return new Answer(0, "", "Request not sent to uri= " + url + " : " + said(e));
        } finally {
            connection.disconnect();
        }
    }

    private Proxy proxy() {
        if (options.containsKey("proxy")) {
            return new Proxy(Proxy.Type.HTTP, address(options.get("proxy")));
        }
        String host = System.getProperty("https.proxyHost");
        return host == null ? Proxy.NO_PROXY
            : new Proxy(Proxy.Type.HTTP, address(host + ":" + System.getProperty("https.proxyPort", "443")));
    }

    private static InetSocketAddress address(String text) {
        int colon = text.lastIndexOf(':');
        return new InetSocketAddress(text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    }

    /** A simple bind; with a connect timeout JNDI tells the cause, as in the article. */
    private void ldapProbe(String server) throws Exception {
        LdapSockets.factory = context().getSocketFactory();
        Hashtable<String, String> given = new Hashtable<>();
        given.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
        boolean upgraded = options.containsKey("start-tls");
        given.put(Context.PROVIDER_URL, (upgraded ? "ldap://" : "ldaps://") + server);
        Map<String, String> bind = Map.of(
            Context.SECURITY_AUTHENTICATION, "simple",
            Context.SECURITY_PRINCIPAL, parameters.getOrDefault("ldap.user", "cn=mid"),
            Context.SECURITY_CREDENTIALS, parameters.getOrDefault("ldap.password", "secret"));
        if (!upgraded) {
            given.putAll(bind);
            given.put("java.naming.ldap.factory.socket", LdapSockets.class.getName());
        }
        given.put("com.sun.jndi.ldap.connect.timeout", String.valueOf(CONNECT));
        given.put("com.sun.jndi.ldap.read.timeout", String.valueOf(READ));
        try {
            InitialLdapContext directory = new InitialLdapContext(given, null);
            try {
                if (upgraded) {
                    StartTlsResponse tls = (StartTlsResponse) directory.extendedOperation(new StartTlsRequest());
                    if (!checks.hostname) {
                        tls.setHostnameVerifier((host, session) -> true);
                    }
                    tls.negotiate(LdapSockets.factory);
                    for (Map.Entry<String, String> each : bind.entrySet()) {
                        directory.addToEnvironment(each.getKey(), each.getValue());
                    }
                    directory.reconnect(null);  // the bind
                }
            } finally {
                directory.close();
            }
            say("Worker-Standard:LDAPProbe bound to " + server);
        } catch (NamingException e) {
            well = false;
            Throwable root = e.getRootCause() == null ? e : e.getRootCause();
            String text = e.getClass().getName() + ": " + server + " [Root exception is " + said(root) + "]";
            say("MID Server reported error: " + text);
            for (StackTraceElement frame : e.getStackTrace()) {
                say("at " + frame);
            }
        } catch (IOException e) {  // what StartTLS meets is in no exception of JNDI's
            well = false;
            say("MID Server reported error: " + said(e));
        }
    }

    /** In the articles' form: the exception, and of one that only passes its cause on, the cause in full. */
    private static String said(Throwable e) {
        Throwable cause = e.getCause();
        boolean wraps = e instanceof javax.net.ssl.SSLException && cause instanceof CertificateException;
        return wraps ? e.getClass().getName() + ": " + cause : e.toString();
    }

    private static void warning(String thread, String text) {
        say(thread + " WARNING *** WARNING *** " + text);
    }

    private static void severe(String thread, String text) {
        say(thread + " SEVERE *** ERROR *** " + text);
    }

    /** A line of the agent log; what others have sent cannot begin another. */
    private static synchronized void say(String text) {
        System.out.println(text.replace("\r", "\\r").replace("\n", "\\n"));
    }

    private record Answer(int status, String body, String problem) {
        boolean says(String element) {
            return body.contains("<" + element + ">true</" + element + ">");
        }
    }

    // -- what is checked ------------------------------------------------------------------------------------------

    /** The stock trust manager, as far as the release asks it. */
    private static final class MidTrust extends X509ExtendedTrustManager {
        private final X509ExtendedTrustManager stock;
        private final Checks checks;

        MidTrust(X509ExtendedTrustManager stock, Checks checks) {
            this.stock = stock;
            this.checks = checks;
        }

        /** With the socket the stock one checks the host name too. */
        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            if (checks.hostname) {
                (checks.chain ? stock : trusting(chain[0])).checkServerTrusted(chain, type, socket);
            } else {
                checkServerTrusted(chain, type);
            }
            if (checks.revocation) {
                revocation(chain);
            }
        }

        /** A stock one that has this certificate for its root, and so looks at the name alone. */
        private static X509ExtendedTrustManager trusting(X509Certificate leaf) throws CertificateException {
            try {
                KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
                store.load(null, null);
                store.setCertificateEntry("leaf", leaf);
                TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
                factory.init(store);
                return (X509ExtendedTrustManager) factory.getTrustManagers()[0];
            } catch (IOException | GeneralSecurityException e) {
                throw new CertificateException(e);
            }
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            throw new CertificateException("this client has no engine");
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            if (checks.chain) {
                stock.checkServerTrusted(chain, type);
            }
        }

        /**
         * Each certificate that names a responder or a list, asked about by itself under its issuer, so that it does
         * not matter whether the chain leads anywhere. One that names none cannot be asked about.
         */
        private void revocation(X509Certificate[] chain) throws CertificateException {
            List<X509Certificate> issuers = new ArrayList<>(Arrays.asList(chain));
            issuers.addAll(Arrays.asList(stock.getAcceptedIssuers()));
            for (X509Certificate each : chain) {
                boolean names = each.getExtensionValue("1.3.6.1.5.5.7.1.1") != null
                    || each.getExtensionValue("2.5.29.31") != null;
                X509Certificate issuer = names ? issuerOf(each, issuers) : null;
                if (issuer != null && !each.getSubjectX500Principal().equals(each.getIssuerX500Principal())) {
                    ask(each, issuer);
                }
            }
        }

        private static X509Certificate issuerOf(X509Certificate certificate, List<X509Certificate> known) {
            for (X509Certificate each : known) {
                if (each.getSubjectX500Principal().equals(certificate.getIssuerX500Principal())) {
                    try {
                        certificate.verify(each.getPublicKey());
                        return each;
                    } catch (GeneralSecurityException other) {
                        continue;  // a namesake
                    }
                }
            }
            return null;
        }

        private static String commonName(X509Certificate certificate) {
            String subject = certificate.getSubjectX500Principal().getName();
            Matcher named = Pattern.compile("(?:^|,)CN=((?:[^,\\\\]|\\\\.)*)").matcher(subject);
            return named.find() ? named.group(1) : subject;
        }

        private static void ask(X509Certificate certificate, X509Certificate issuer) throws CertificateException {
            String name = commonName(certificate);
            try {
                CertPathValidator validator = CertPathValidator.getInstance("PKIX", "SUN");
                PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(issuer, null)));
                PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
                parameters.addCertPathChecker(checker);
                validator.validate(
                    CertificateFactory.getInstance("X.509").generateCertPath(List.of(certificate)), parameters);
            } catch (CertPathValidatorException e) {
                if (e.getReason() == CertPathValidatorException.BasicReason.REVOKED) {
                    warning("StartupSequencer", "OCSP revoke check: " + name + " is revoked");
                    throw new CertificateException(e);
                }
                if (e.getReason() == CertPathValidatorException.BasicReason.UNDETERMINED_REVOCATION_STATUS) {
                    Throwable cause = e;
                    while (cause.getCause() != null && !(cause instanceof IOException)) {
                        cause = cause.getCause();
                    }
                    warning("StartupSequencer", "OCSP revoke check IOException for " + name);
                    warning("StartupSequencer", "org.apache.commons.httpclient.HttpException: " + cause.getMessage());
                    throw new CertificateException(e);
                }
                // anything else is what the chain's check is for
            } catch (GeneralSecurityException e) {
                throw new CertificateException(e);
            }
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            throw new CertificateException("this is a client");
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            checkClientTrusted(chain, type);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine)
            throws CertificateException {
            checkClientTrusted(chain, type);
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return stock.getAcceptedIssuers();
        }
    }

    /**
     * The article's claim on mutual authentication: the certificate is shown only where one of the CAs that the server
     * names has issued it, and not at all under a policy that is not at its defaults.
     */
    private static final class MidKeys extends X509ExtendedKeyManager {
        private final X509ExtendedKeyManager stock;
        private final boolean barred;

        MidKeys(X509ExtendedKeyManager stock, boolean barred) {
            this.stock = stock;
            this.barred = barred;
        }

        @Override
        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            if (barred || issuers == null || issuers.length == 0) {
                return null;
            }
            for (String type : types) {
                String[] aliases = stock.getClientAliases(type, null);
                for (String alias : aliases == null ? new String[0] : aliases) {
                    if (Arrays.asList(issuers).contains(stock.getCertificateChain(alias)[0].getIssuerX500Principal())) {
                        return alias;
                    }
                }
            }
            return null;
        }

        @Override
        public String[] getClientAliases(String type, Principal[] issuers) {
            return stock.getClientAliases(type, issuers);
        }

        @Override
        public X509Certificate[] getCertificateChain(String alias) {
            return stock.getCertificateChain(alias);
        }

        @Override
        public PrivateKey getPrivateKey(String alias) {
            return stock.getPrivateKey(alias);
        }

        @Override
        public String[] getServerAliases(String type, Principal[] issuers) {
            return null;
        }

        @Override
        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            return null;
        }
    }

    /** What JNDI makes its sockets with: it wants the name of a class. */
    public static final class LdapSockets extends SocketFactory {
        static volatile SSLSocketFactory factory;

        public static SocketFactory getDefault() {
            return new LdapSockets();
        }

        @Override
        public Socket createSocket() throws IOException {
            return factory.createSocket();
        }

        @Override
        public Socket createSocket(String host, int port) throws IOException {
            return factory.createSocket(host, port);
        }

        @Override
        public Socket createSocket(String host, int port, InetAddress here, int herePort) throws IOException {
            return factory.createSocket(host, port, here, herePort);
        }

        @Override
        public Socket createSocket(InetAddress host, int port) throws IOException {
            return factory.createSocket(host, port);
        }

        @Override
        public Socket createSocket(InetAddress host, int port, InetAddress here, int herePort) throws IOException {
            return factory.createSocket(host, port, here, herePort);
        }
    }
}
