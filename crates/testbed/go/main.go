// Command spiffe-peer is an independent SPIFFE implementation (go-spiffe) for the tests to talk to.
//
//	spiffe-peer watch  -socket unix:///run/agent.sock
//	spiffe-peer client -socket … | -files DIR  -url https://… -authorize spiffe://…
//	spiffe-peer server -socket … | -files DIR  -authorize spiffe://…
//
// It speaks in JSON, a document a line. What is wrong is told in the field "error" and ends nothing but the request.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// line is what is written to the standard output.
type line struct {
	// Error says what went wrong.
	Error string `json:"error,omitempty"`
	// Address is where the server listens.
	Address string `json:"address,omitempty"`
	// ID and Serial are our own SVID's.
	ID     string `json:"id,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Authorities counts the certificates of the bundle of our trust domain.
	Authorities int `json:"authorities,omitempty"`
	// PeerID and PeerSerial are those of the SVID that the other side showed.
	PeerID     string `json:"peer_id,omitempty"`
	PeerSerial string `json:"peer_serial,omitempty"`
	// Method, Path, Status and Body are those of a request and its answer.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Status int    `json:"status,omitempty"`
	Body   string `json:"body,omitempty"`
	// Version is the version of TLS.
	Version string `json:"version,omitempty"`
}

var output sync.Mutex

func say(l line) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
		os.Exit(1)
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return fmt.Errorf("say watch, client or server")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ContinueOnError)
	socket := flags.String("socket", "", "address of a Workload API")
	files := flags.String("files", "", "folder with svid.pem, key.pem and bundle.pem, read anew for each handshake")
	url := flags.String("url", "", "what the client gets, once for each line of its standard input")
	authorize := flags.String("authorize", "", "the SPIFFE ID that the other side must have")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	if os.Args[1] == "watch" {
		return watch(ctx, *socket)
	}
	allowed, err := spiffeid.FromString(*authorize)
	if err != nil {
		return fmt.Errorf("-authorize: %w", err)
	}
	identity, err := newIdentity(ctx, *socket, *files)
	if err != nil {
		return err
	}
	switch os.Args[1] {
	case "client":
		return client(ctx, identity, allowed, *url)
	case "server":
		return server(ctx, identity, allowed)
	}
	return fmt.Errorf("unknown command %q", os.Args[1])
}
