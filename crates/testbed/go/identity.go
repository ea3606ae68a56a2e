package main

import (
	"context"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// identity gives the SVID and the bundle that are good at this moment.
type identity interface {
	x509svid.Source
	x509bundle.Source
}

func newIdentity(ctx context.Context, socket, files string) (identity, error) {
	if files != "" {
		return fromFiles(files), nil
	}
	return workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(socket)))
}

// fromFiles reads a folder anew each time.
type fromFiles string

func (dir fromFiles) GetX509SVID() (*x509svid.SVID, error) {
	return x509svid.Load(filepath.Join(string(dir), "svid.pem"), filepath.Join(string(dir), "key.pem"))
}

func (dir fromFiles) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return x509bundle.Load(td, filepath.Join(string(dir), "bundle.pem"))
}
