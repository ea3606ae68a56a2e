package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// server answers every request of the one identity that it allows, and tells each.
func server(ctx context.Context, id identity, allowed spiffeid.ID) error {
	config := tlsconfig.MTLSServerConfig(id, id, tlsconfig.AuthorizeID(allowed))
	config.NextProtos = []string{"h2", "http/1.1"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		told := line{Method: r.Method, Path: r.URL.Path}
		told.peer(r.TLS)
		if svid, err := id.GetX509SVID(); err == nil {
			told.ID, told.Serial = svid.ID.String(), svid.Certificates[0].SerialNumber.Text(16)
		}
		say(told)
		_, _ = w.Write([]byte("hello " + told.PeerID + "\n"))
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(handler),
		ReadHeaderTimeout: 10 * time.Second,
		// A refused handshake is what some tests want to see.
		ErrorLog: log.New(refusals{}, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	say(line{Address: listener.Addr().String()})
	if err := srv.Serve(tls.NewListener(listener, config)); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// refusals tells what the server complains of.
type refusals struct{}

func (refusals) Write(text []byte) (int, error) {
	say(line{Error: string(text)})
	return len(text), nil
}
