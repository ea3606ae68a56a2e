#!/usr/bin/env bash
# From nothing to a replicated image, with SSH host certificates. See README.md.
. "$(dirname "$0")/../common.sh"
need spire-server spire-agent ground-control satellite groundctl curl jq ssh-keygen

say "the SSH authority, and a host certificate for the machine of $SATELLITE"
mkdir -p "$WORK/ssh" "$EDGE"
ssh-keygen -q -t ed25519 -N '' -C 'hosts of Example' -f "$WORK/ssh/ssh_ca"
ssh-keygen -q -t ed25519 -N '' -C "$SATELLITE" -f "$EDGE/ssh_host_ed25519_key"
ssh-keygen -q -s "$WORK/ssh/ssh_ca" -I "$SATELLITE" -h -n "$SATELLITE" -V -5m:+520w "$EDGE/ssh_host_ed25519_key.pub"

start_spire_cloud
start_ground_control
publish_image

# The agent comes first. What it attests with tells no name, so that the registration has to name the agent.
prepare_edge
start_edge_agent
AGENT="$(groundctl --output json spire agents --type sshpop | jq -r '(.agents? // .)[0].spiffe_id')"
say "registering $SATELLITE, served by $AGENT"
groundctl satellites register "$SATELLITE" --region "$REGION" --group "$GROUP" \
    --selector "$SELECTOR" --attestation-method sshpop --parent-agent "$AGENT" \
    --trust-bundle-file "$EDGE/spire-agent/registered-bundle.pem"

start_satellite
wait_for_image
