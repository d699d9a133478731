// The SPIFFE library for Go, as it is, against the socket given: fetches, watches and validates.
//
// Prints one JSON object; exits with an error if anything is not as it should be.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spiffe/go-spiffe/v2/exp/svid/witsvid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func main() {
	renewals, err := strconv.Atoi(os.Args[2])
	if err == nil {
		err = run("unix://"+os.Args[1], renewals)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(socket string, renewals int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	options := workloadapi.WithClientOptions(workloadapi.WithAddr(socket))

	source, err := workloadapi.NewX509Source(ctx, options)
	if err != nil {
		return fmt.Errorf("X509Source: %w", err)
	}
	defer source.Close()
	seen := map[string]bool{}
	var svid *x509svid.SVID
	for len(seen) <= renewals {
		if svid, err = source.GetX509SVID(); err != nil {
			return err
		}
		// By the library's own verifier, under the bundle of its own trust domain.
		if _, _, err := x509svid.Verify(svid.Certificates, source); err != nil {
			return fmt.Errorf("an SVID that does not verify: %w", err)
		}
		seen[svid.Certificates[0].SerialNumber.String()] = true
		if len(seen) <= renewals {
			if err := source.WaitUntilUpdated(ctx); err != nil {
				return fmt.Errorf("no renewal came: %w", err)
			}
		}
	}

	tokens, err := workloadapi.NewJWTSource(ctx, options)
	if err != nil {
		return fmt.Errorf("JWTSource: %w", err)
	}
	defer tokens.Close()
	token, err := tokens.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "reports"})
	if err != nil {
		return fmt.Errorf("FetchJWTSVID: %w", err)
	}
	if _, err := jwtsvid.ParseAndValidate(token.Marshal(), tokens, []string{"reports"}); err != nil {
		return fmt.Errorf("a token that does not verify: %w", err)
	}
	if _, err := jwtsvid.ParseAndValidate(token.Marshal(), tokens, []string{"billing"}); err == nil {
		return fmt.Errorf("a token for others was taken")
	}

	client, err := workloadapi.New(ctx, workloadapi.WithAddr(socket))
	if err != nil {
		return err
	}
	defer client.Close()
	judged, err := client.ValidateJWTSVID(ctx, token.Marshal(), "reports")
	if err != nil {
		return fmt.Errorf("ValidateJWTSVID: %w", err)
	}
	_, refusal := client.ValidateJWTSVID(ctx, token.Marshal(), "billing")
	if refusal == nil {
		return fmt.Errorf("the server took a token for others")
	}
	wits, err := workloadapi.NewWITSource(ctx, options)
	if err != nil {
		return fmt.Errorf("WITSource: %w", err)
	}
	defer wits.Close()
	wit, err := wits.GetWITSVIDForID(svid.ID)
	if err != nil {
		return fmt.Errorf("WIT-SVID: %w", err)
	}
	if _, err := witsvid.ParseAndValidate(wit.Marshal(), wits); err != nil {
		return fmt.Errorf("a WIT-SVID that does not verify: %w", err)
	}
	if _, err := client.ValidateJWTSVID(ctx, wit.Marshal(), "reports"); err == nil {
		return fmt.Errorf("the server took a WIT-SVID for a JWT-SVID")
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"spiffe_id": svid.ID.String(),
		"renewals":  len(seen) - 1,
		"jwt":       token.ID.String(),
		"audience":  token.Audience,
		"wit":       wit.ID.String(),
		"judged":    judged.ID.String(),
		"refusal":   refusal.Error(),
	})
}
