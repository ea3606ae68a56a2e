package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
)

// bodyLimit bounds what is read and told of an answer.
const bodyLimit = 4096

// client makes one request on a connection of its own for each line of the standard input.
func client(ctx context.Context, id identity, allowed spiffeid.ID, url string) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		say(request(ctx, id, allowed, url))
	}
	return lines.Err()
}

func request(ctx context.Context, id identity, allowed spiffeid.ID, url string) line {
	svid, err := id.GetX509SVID()
	if err != nil {
		return line{Error: err.Error()}
	}
	told := line{ID: svid.ID.String(), Serial: svid.Certificates[0].SerialNumber.Text(16), Method: http.MethodGet, Path: url}
	transport := &http.Transport{
		TLSClientConfig:   tlsconfig.MTLSClientConfig(id, id, tlsconfig.AuthorizeID(allowed)),
		ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		told.Error = err.Error()
		return told
	}
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		told.Error = err.Error()
		return told
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, bodyLimit))
	if err != nil {
		told.Error = err.Error()
	}
	told.Status, told.Body = answer.StatusCode, string(body)
	told.peer(answer.TLS)
	return told
}

// peer fills in who the other side of a connection is.
func (l *line) peer(state *tls.ConnectionState) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return
	}
	leaf := state.PeerCertificates[0]
	l.PeerSerial, l.Version = leaf.SerialNumber.Text(16), tls.VersionName(state.Version)
	if len(leaf.URIs) == 1 {
		l.PeerID = leaf.URIs[0].String()
	}
}
