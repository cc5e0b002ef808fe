import java.nio.file.Files;
import java.nio.file.Path;

/** Several MID-like clients, one after the other in one JVM. Argument: a file, a word a line, an empty line between two. */
public final class MidClients {
    public static void main(String[] args) throws Exception {
        for (String client : Files.readString(Path.of(args[0])).split("\n\n")) {
            System.out.println("## exit code " + MidClient.run(client.split("\n")));
        }
    }
}
