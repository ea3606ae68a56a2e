// k3s's and RKE2's registries.yaml as they read it, and a pull as RKE2 does it for images of its own.
//
//	registries read FILE              what the file says, as JSON
//	registries pull FILE REFERENCE    the manifest's digest, once every blob was read
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rancher/wharfie/pkg/registries"
	"github.com/sirupsen/logrus"
)

func main() {
	logrus.SetOutput(os.Stderr)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) < 2 {
		return fmt.Errorf("usage: registries read FILE | pull FILE REFERENCE")
	}
	// A file that is not there is no error to the reader.
	if _, err := os.Stat(words[1]); err != nil {
		return err
	}
	registry, err := registries.GetPrivateRegistries(words[1])
	if err != nil {
		return err
	}
	switch {
	case words[0] == "read" && len(words) == 2:
		return json.NewEncoder(os.Stdout).Encode(registry.Registry)
	case words[0] == "pull" && len(words) == 3:
		reference, err := name.ParseReference(words[2])
		if err != nil {
			return err
		}
		image, err := registry.Image(reference, remote.WithUserAgent("registries"))
		if err != nil {
			return err
		}
		layers, err := image.Layers()
		if err != nil {
			return err
		}
		for _, layer := range layers {
			content, err := layer.Compressed()
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, content)
			if closed := content.Close(); err == nil {
				err = closed
			}
			if err != nil {
				return err
			}
		}
		digest, err := image.Digest()
		if err != nil {
			return err
		}
		fmt.Println(digest)
		return nil
	}
	return fmt.Errorf("unknown command %q", words)
}
