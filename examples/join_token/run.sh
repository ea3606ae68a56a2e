#!/usr/bin/env bash
# From nothing to a replicated image, with one-time join tokens. See README.md.
. "$(dirname "$0")/../common.sh"
need spire-server spire-agent ground-control satellite groundctl curl jq

start_spire_cloud
start_ground_control
publish_image

say "registering $SATELLITE"
prepare_edge
# The one secret that travels to the edge; it works once, and for ten minutes.
groundctl satellites register "$SATELLITE" --region "$REGION" --group "$GROUP" \
    --selector "$SELECTOR" --attestation-method join_token --ttl 10m \
    --join-token-file "$EDGE/spire-agent/join-token" --trust-bundle-file "$EDGE/spire-agent/registered-bundle.pem"

start_edge_agent -joinTokenFile "$EDGE/spire-agent/join-token"
rm -f "$EDGE/spire-agent/join-token"
start_satellite
wait_for_image
