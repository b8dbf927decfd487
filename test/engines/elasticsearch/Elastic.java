import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.KeyStoreWrapper;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/** Starts one Elasticsearch node on loopback: Elastic HOME HTTP TRANSPORT MODULES; with $ELASTIC_PASSWORD, TLS and authentication. */
public class Elastic {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]).toAbsolutePath();
        Path config = Files.createDirectories(home.resolve("config"));
        Settings.Builder s = Settings.builder()
            .put("path.home", home)
            .put("path.data", home.resolve("data"))
            .put("path.logs", home.resolve("logs"))
            .put("cluster.name", "engines")
            .put("node.name", "node-1")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[1])
            .put("transport.port", args[2])
            .put("discovery.type", "single-node")
            .put("cluster.max_shards_per_node", 10000)
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        String password = System.getenv("ELASTIC_PASSWORD");
        if (password != null) {
            KeyStoreWrapper keys = KeyStoreWrapper.create();
            keys.setString("bootstrap.password", password.toCharArray());
            s.setSecureSettings(keys)
                .put("xpack.security.enabled", true)
                .put("xpack.security.autoconfiguration.enabled", false)
                .put("xpack.security.http.ssl.enabled", true)
                .put("xpack.security.http.ssl.key", config.resolve("server.key"))
                .put("xpack.security.http.ssl.certificate", config.resolve("server.crt"));
        }
        Settings settings = s.build();
        LogConfigurator.registerErrorListener();
        LogConfigurator.configureESLogging();
        LogConfigurator.configureWithoutConfig(settings);
        Environment env = new Environment(settings, config);
        Node node = new Node(env, PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(Path.of(args[3])), PluginsLoader.loadPluginsBundles(env.pluginsDir()), Map.of(), false));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        node.start();
        Thread.currentThread().join();
    }
}
