import java.util.Hashtable;
import javax.naming.Context;
import javax.naming.ldap.InitialLdapContext;
import javax.naming.ldap.LdapContext;
import javax.naming.ldap.StartTlsRequest;
import javax.naming.ldap.StartTlsResponse;

/** JNDI as Java programs use it: connect in clear, StartTLS, and say what was agreed. Arguments: URL. */
public final class LdapStartTls {
    public static void main(String[] args) throws Exception {
        Hashtable<String, String> environment = new Hashtable<>();
        environment.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.ldap.LdapCtxFactory");
        environment.put(Context.PROVIDER_URL, args[0]);
        LdapContext context = new InitialLdapContext(environment, null);
        StartTlsResponse tls = (StartTlsResponse) context.extendedOperation(new StartTlsRequest());
        System.out.println("protocol: " + tls.negotiate().getProtocol());
        tls.close();
        context.close();
    }
}
