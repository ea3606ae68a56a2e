package main

import (
	"context"
	"errors"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// watch tells every X.509 context that a Workload API hands out.
func watch(ctx context.Context, socket string) error {
	err := workloadapi.WatchX509Context(ctx, watcher{}, workloadapi.WithAddr(socket))
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svid := c.DefaultSVID()
	bundle, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		say(line{Error: err.Error()})
		return
	}
	say(line{
		ID:          svid.ID.String(),
		Serial:      svid.Certificates[0].SerialNumber.Text(16),
		Authorities: len(bundle.X509Authorities()),
	})
}

func (watcher) OnX509ContextWatchError(err error) {
	say(line{Error: err.Error()})
}
