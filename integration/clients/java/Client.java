// The SPIFFE library for Java, as it is, against the socket given: fetches, watches and validates.
//
// Prints one JSON object; exits with an error if anything is not as it should be.

import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultJwtSource;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.JwtSourceOptions;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.X509Context;
import java.security.Signature;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public class Client {
    public static void main(String[] args) throws Exception {
        String socket = "unix:" + args[0];
        int renewals = Integer.parseInt(args[1]);

        var options = DefaultX509Source.X509SourceOptions.builder()
            .spiffeSocketPath(socket).initTimeout(Duration.ofSeconds(30)).build();
        try (var source = DefaultX509Source.newSource(options)) {
            X509Svid svid = source.getX509Svid();
            // By the library's own verifier, under the bundle of its own trust domain.
            X509SvidValidator.verifyChain(svid.getChain(), source);
            requireKeyOfLeaf(svid);

            var clientOptions =
                DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(socket).build();
            try (var client = DefaultWorkloadApiClient.newClient(clientOptions)) {
                Set<String> serials = new ConcurrentSkipListSet<>();
                var renewed = new CountDownLatch(renewals + 1);
                client.watchX509Context(new Watcher<X509Context>() {
                    @Override
                    public void onUpdate(X509Context context) {
                        var leaf = context.getDefaultSvid().getLeaf();
                        if (serials.add(leaf.getSerialNumber().toString())) {
                            renewed.countDown();
                        }
                    }

                    @Override
                    public void onError(Throwable error) {
                        System.err.println("while it watched: " + error);
                    }
                });
                if (!renewed.await(60, TimeUnit.SECONDS)) {
                    throw new IllegalStateException("no renewal came: " + serials);
                }
                // The source follows too, by a stream of its own.
                long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
                while (source.getX509Svid().getLeaf().equals(svid.getLeaf())) {
                    if (System.nanoTime() > deadline) {
                        throw new IllegalStateException("the source has its first SVID still");
                    }
                    Thread.sleep(20);
                }
                X509SvidValidator.verifyChain(source.getX509Svid().getChain(), source);
                requireKeyOfLeaf(source.getX509Svid());

                var jwtOptions = JwtSourceOptions.builder()
                    .spiffeSocketPath(socket).initTimeout(Duration.ofSeconds(30)).build();
                try (var tokens = DefaultJwtSource.newSource(jwtOptions)) {
                    JwtSvid token = tokens.fetchJwtSvid("reports");
                    JwtSvid.parseAndValidate(token.getToken(), tokens, Set.of("reports"));
                    if (isTaken(() -> JwtSvid.parseAndValidate(token.getToken(), tokens, Set.of("billing")))) {
                        throw new IllegalStateException("a token for others was taken");
                    }
                    JwtSvid judged = client.validateJwtSvid(token.getToken(), "reports");
                    if (isTaken(() -> client.validateJwtSvid(token.getToken(), "billing"))) {
                        throw new IllegalStateException("the server took a token for others");
                    }
                    System.out.printf(
                        "{\"spiffe_id\": \"%s\", \"renewals\": %d, \"jwt\": \"%s\", \"judged\": \"%s\"}%n",
                        svid.getSpiffeId(), serials.size() - 1, token.getSpiffeId(), judged.getSpiffeId());
                }
            }
        }
        // Threads of its channels live on.
        System.exit(0);
    }

    // What the key signs, the leaf's verifies.
    static void requireKeyOfLeaf(X509Svid svid) throws Exception {
        byte[] message = "a message".getBytes();
        var signer = Signature.getInstance("SHA256withECDSA");
        signer.initSign(svid.getPrivateKey());
        signer.update(message);
        byte[] signature = signer.sign();
        var verifier = Signature.getInstance("SHA256withECDSA");
        verifier.initVerify(svid.getLeaf().getPublicKey());
        verifier.update(message);
        if (!verifier.verify(signature)) {
            throw new IllegalStateException("the key is not the leaf's");
        }
    }

    interface Attempt {
        void run() throws Exception;
    }

    static boolean isTaken(Attempt attempt) {
        try {
            attempt.run();
            return true;
        } catch (Exception refused) {
            return false;
        }
    }
}
