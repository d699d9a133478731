// What runs in a pod: the whole of an image whose only file this is.
//
// `pod pause` holds a pod's namespaces open. `pod once SOCKET` says which identities it has. `pod watch SOCKET` says on a line of its own, each time it is told anew,
// which identities it has, or why it has none; with the seconds since it began.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

var began = time.Now()

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) < 3 {
		<-ctx.Done()
		return
	}
	address := workloadapi.WithAddr("unix://" + os.Args[2])
	if os.Args[1] == "once" {
		update, err := workloadapi.FetchX509Context(ctx, address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		(&teller{}).OnX509ContextUpdate(update)
		return
	}
	// It asks again by itself, and returns at the end only.
	fmt.Println("ended:", workloadapi.WatchX509Context(ctx, &teller{}, address))
}

type teller struct{ last string }

func (t *teller) OnX509ContextUpdate(update *workloadapi.X509Context) {
	var ids []string
	for _, svid := range update.SVIDs {
		ids = append(ids, svid.ID.String())
	}
	sort.Strings(ids)
	t.tell("has " + strings.Join(ids, " "))
}

func (t *teller) OnX509ContextWatchError(err error) {
	t.tell("lacks: " + err.Error())
}

func (t *teller) tell(line string) {
	if line != t.last {
		fmt.Printf("%s (%.2f s)\n", line, time.Since(began).Seconds())
	}
	t.last = line
}
