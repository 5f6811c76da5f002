import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.CompletableFuture;
import java.util.regex.*;
import org.apache.flink.table.api.*;

/** Runs SQL files on this machine, each as a job that goes on from its last checkpoint: SqlRunner.java FILE… */
class SqlRunner {
    public static void main(String[] files) {
        try {
            List<CompletableFuture<?>> jobs = new ArrayList<>();
            for (String file : files) start(Path.of(file), jobs);
            // The jobs have no end, so the first that ends has failed, and with it the program.
            CompletableFuture.anyOf(jobs.toArray(CompletableFuture[]::new)).get();
        } catch (Exception error) {
            error.printStackTrace();
        }
        System.exit(1);
    }

    static void start(Path file, List<CompletableFuture<?>> jobs) throws Exception {
        TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        // Whoever reaches its ports may run programs here, and nothing outside needs them.
        for (String address : List.of("rest.bind-address", "jobmanager.bind-host", "taskmanager.bind-host"))
            flink.getConfig().set(address, "127.0.0.1");
        Path checkpoints = Path.of(variable("CHECKPOINTS")).toAbsolutePath().resolve(file.getFileName());
        flink.getConfig().set("execution.checkpointing.dir", checkpoints.toUri().toString());
        Optional<Path> last = newest(checkpoints);
        last.ifPresent(path -> flink.getConfig().set("execution.state-recovery.path", path.toUri().toString()));

        // ${NAME} is a variable of the environment, and a line that begins with -- a comment.
        String sql = Files.readString(file).replaceAll("(?m)^\\s*--.*\\R?", "");
        sql = Pattern.compile("\\$\\{(\\w+)}").matcher(sql)
            .replaceAll(found -> Matcher.quoteReplacement(variable(found.group(1))));
        // A statement ends with ; at the end of a line, a set of statements with END;
        Matcher statement = Pattern.compile("(?ms)^EXECUTE STATEMENT SET.*?^END;$|^\\S.*?;$").matcher(sql);
        while (statement.find()) {
            Matcher set = Pattern.compile("SET '(.+)' = '(.*)';").matcher(statement.group());
            if (set.matches()) {
                flink.getConfig().set(set.group(1), set.group(2));
                continue;
            }
            flink.executeSql(statement.group()).getJobClient().ifPresent(job -> {
                jobs.add(job.getJobExecutionResult());
                System.out.println(file + " runs, from " + last.map(Path::toString).orElse("the beginning"));
            });
        }
    }

    static String variable(String name) {
        return Objects.requireNonNull(System.getenv(name), name + " is not set");
    }

    /** The newest checkpoint below a folder: one that was not finished has no _metadata. */
    static Optional<Path> newest(Path folder) throws Exception {
        if (!Files.isDirectory(folder)) return Optional.empty();
        try (var paths = Files.walk(folder)) {
            return paths.filter(path -> path.endsWith("_metadata"))
                .max(Comparator.comparing(path -> path.toFile().lastModified())).map(Path::getParent);
        }
    }
}
