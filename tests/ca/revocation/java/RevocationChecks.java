import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.Security;
import java.security.cert.CertPath;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * Many certificates checked for revocation in one JVM, each case a line of a file: NAME, MODE, ROOT, CHAIN and for the
 * mode "tls" a PORT, with tabs between them. What came of it is told in lines of "NAME<tab>KEY<tab>VALUE".
 *
 * Modes: "property" is what PKIX does by itself with the security property ocsp.enable and the system property
 * com.sun.security.enableCRLDP; "hard" and "soft" are OCSP without falling back on CRLs; "crl" and "crl-soft" CRLs
 * alone; "either" is OCSP and then CRLs; "leaf" is OCSP of the leaf alone; "build" finds a path from the leaf on, with
 * com.sun.security.enableAIAcaIssuers and no revocation; "tls" is a handshake with a trust manager like "property".
 */
public final class RevocationChecks {
    public static void main(String[] args) throws Exception {
        Security.setProperty("ocsp.enable", "true");
        ExecutorService pool = Executors.newFixedThreadPool(16);
        Map<String, Future<List<String>>> checks = new LinkedHashMap<>();
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] words = line.split("\t");
            checks.put(words[0], pool.submit(() -> check(words)));
        }
        for (Map.Entry<String, Future<List<String>>> check : checks.entrySet()) {
            for (String said : check.getValue().get()) {
                System.out.println(check.getKey() + "\t" + said);
            }
        }
        System.exit(0);
    }

    private static List<String> check(String[] words) {
        List<String> said = new ArrayList<>();
        try {
            Set<TrustAnchor> anchors = Set.of(new TrustAnchor(certificates(words[2]).get(0), null));
            switch (words[1]) {
                case "build" -> build(anchors, certificates(words[3]).get(0), said);
                case "tls" -> handshake(words[2], Integer.parseInt(words[4]));
                default -> validate(words[1], anchors, certificates(words[3]), said);
            }
            said.add("result\tOK");
        } catch (Exception e) {
            said.add("result\tFAILED");
            for (Throwable t = e; t != null; t = t.getCause()) {
                said.add("cause\t" + t.getClass().getSimpleName() + ": " + firstLine(t.getMessage()));
                if (t instanceof CertPathValidatorException v) {
                    said.add("reason\t" + v.getReason());
                    said.add("index\t" + v.getIndex());
                }
                if (t instanceof CertificateRevokedException r) {
                    said.add("revoked\t" + r.getRevocationReason() + " " + r.getRevocationDate().toInstant());
                }
            }
        }
        return said;
    }

    private static void validate(String mode, Set<TrustAnchor> anchors, List<X509Certificate> chain, List<String> said)
            throws Exception {
        CertPath path = CertificateFactory.getInstance("X.509").generateCertPath(chain);
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXParameters parameters = new PKIXParameters(anchors);
        parameters.setRevocationEnabled(true);
        if (mode.equals("property")) {
            validator.validate(path, parameters);
            return;
        }
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        EnumSet<PKIXRevocationChecker.Option> options = EnumSet.noneOf(PKIXRevocationChecker.Option.class);
        if (!mode.equals("either")) {
            options.add(PKIXRevocationChecker.Option.NO_FALLBACK);
        }
        if (mode.startsWith("crl")) {
            options.add(PKIXRevocationChecker.Option.PREFER_CRLS);
        }
        if (mode.endsWith("soft")) {
            options.add(PKIXRevocationChecker.Option.SOFT_FAIL);
        }
        if (mode.equals("leaf")) {
            options.add(PKIXRevocationChecker.Option.ONLY_END_ENTITY);
        }
        checker.setOptions(options);
        parameters.addCertPathChecker(checker);
        validator.validate(path, parameters);
        for (CertPathValidatorException ignored : checker.getSoftFailExceptions()) {
            said.add("soft\t" + firstLine(ignored.getMessage()));
        }
    }

    private static void build(Set<TrustAnchor> anchors, X509Certificate leaf, List<String> said) throws Exception {
        X509CertSelector selector = new X509CertSelector();
        selector.setCertificate(leaf);
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors, selector);
        parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(List.of(leaf))));
        parameters.setRevocationEnabled(false);
        CertPath path = CertPathBuilder.getInstance("PKIX").build(parameters).getCertPath();
        said.add("length\t" + path.getCertificates().size());
    }

    private static void handshake(String root, int port) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        trusted.setCertificateEntry("root", certificates(root).get(0));
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(trusted, new X509CertSelector());
        parameters.setRevocationEnabled(true);
        TrustManagerFactory managers = TrustManagerFactory.getInstance("PKIX");
        managers.init(new CertPathTrustManagerParameters(parameters));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", port)) {
            socket.startHandshake();
        }
    }

    private static List<X509Certificate> certificates(String file) throws Exception {
        List<X509Certificate> found = new ArrayList<>();
        byte[] data = Files.readAllBytes(Path.of(file));
        CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(data))
                .forEach(one -> found.add((X509Certificate) one));
        return found;
    }

    private static String firstLine(String text) {
        return text == null ? "null" : text.lines().findFirst().orElse("");
    }
}
