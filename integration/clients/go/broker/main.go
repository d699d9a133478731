// A broker in Go: refers to the process given, on the socket for brokers, by the messages that go-spiffe has for it.
//
// Prints a line of JSON when it has all that the process may have, and another when the process has ended.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

func main() {
	pid, err := strconv.Atoi(os.Args[3])
	if err == nil {
		err = run("unix://"+os.Args[1], "unix://"+os.Args[2], int32(pid))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(workloadAPI, brokerAPI string, pid int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// A broker is a workload first.
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(workloadAPI)))
	if err != nil {
		return fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	own, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	domain := own.ID.TrustDomain()
	server, err := spiffeid.FromPath(domain, "/countersign/server")
	if err != nil {
		return err
	}
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(server))
	connection, err := grpc.NewClient(brokerAPI, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := broker.NewAPIClient(connection)
	ctx = metadata.AppendToOutgoingContext(ctx, "broker.spiffe.io", "true")
	packed, err := anypb.New(&broker.WorkloadPIDReference{Pid: pid})
	if err != nil {
		return err
	}
	reference := &broker.WorkloadReference{Reference: packed}

	stream, err := client.SubscribeToX509SVID(ctx, &broker.SubscribeToX509SVIDRequest{Reference: reference})
	if err != nil {
		return fmt.Errorf("SubscribeToX509SVID: %w", err)
	}
	first, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("SubscribeToX509SVID: %w", err)
	}
	given := first.GetSvids()[0]
	svid, err := x509svid.ParseRaw(given.GetX509Svid(), given.GetX509SvidKey())
	if err != nil {
		return fmt.Errorf("an SVID that cannot be read: %w", err)
	}
	roots, err := x509bundle.ParseRaw(domain, given.GetBundle())
	if err != nil {
		return fmt.Errorf("a bundle that cannot be read: %w", err)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, roots); err != nil {
		return fmt.Errorf("an SVID that does not verify: %w", err)
	}

	bundles, err := client.SubscribeToX509Bundles(ctx, &broker.SubscribeToX509BundlesRequest{Reference: reference})
	if err != nil {
		return fmt.Errorf("SubscribeToX509Bundles: %w", err)
	}
	all, err := bundles.Recv()
	if err != nil {
		return fmt.Errorf("SubscribeToX509Bundles: %w", err)
	}
	keys, err := client.SubscribeToJWTBundles(ctx, &broker.SubscribeToJWTBundlesRequest{Reference: reference})
	if err != nil {
		return fmt.Errorf("SubscribeToJWTBundles: %w", err)
	}
	sets, err := keys.Recv()
	if err != nil {
		return fmt.Errorf("SubscribeToJWTBundles: %w", err)
	}
	verifying, err := jwtbundle.Parse(domain, sets.GetBundles()[domain.IDString()])
	if err != nil {
		return fmt.Errorf("a JWK Set that cannot be read: %w", err)
	}
	tokens, err := client.FetchJWTSVID(ctx, &broker.FetchJWTSVIDRequest{Reference: reference, Audience: []string{"reports"}})
	if err != nil {
		return fmt.Errorf("FetchJWTSVID: %w", err)
	}
	token, err := jwtsvid.ParseAndValidate(tokens.GetSvids()[0].GetSvid(), verifying, []string{"reports"})
	if err != nil {
		return fmt.Errorf("a token that does not verify: %w", err)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{
		"broker":    own.ID.String(),
		"pid":       pid,
		"spiffe_id": svid.ID.String(),
		"jwt":       token.ID.String(),
		"bundles":   len(all.GetBundles()),
	}); err != nil {
		return err
	}

	for err == nil {
		_, err = stream.Recv()
	}
	ended := status.Convert(err)
	reason := ""
	for _, detail := range ended.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			reason = info.GetDomain() + "/" + info.GetReason()
		}
	}
	return out.Encode(map[string]any{
		"ended":   ended.Code().String(),
		"reason":  reason,
		"message": ended.Message(),
	})
}
