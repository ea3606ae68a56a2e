#!/usr/bin/env bash
# From nothing to a replicated image, with certificates that the machines were made with. See README.md.
. "$(dirname "$0")/../common.sh"
need spire-server spire-agent ground-control satellite groundctl curl jq openssl

say "the manufacturer: an authority, and a certificate for the machine of $SATELLITE"
PKI="$WORK/pki"
mkdir -p "$PKI" "$EDGE"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Machines of Example" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
    -keyout "$PKI/ca.key" -out "$PKI/ca.pem" 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$SATELLITE" \
    -keyout "$EDGE/node.key" -out "$PKI/node.csr" 2>/dev/null
# SPIRE takes only a leaf that may sign: without an extension file openssl writes no key usage at all.
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' >"$PKI/leaf.ext"
openssl x509 -req -in "$PKI/node.csr" -CA "$PKI/ca.pem" -CAkey "$PKI/ca.key" -CAcreateserial -days 3650 \
    -extfile "$PKI/leaf.ext" -out "$EDGE/node.pem" 2>/dev/null

start_spire_cloud
start_ground_control
publish_image

# The agent comes first: the registration looks for the one whose certificate carries the satellite's name.
prepare_edge
start_edge_agent
say "registering $SATELLITE"
groundctl satellites register "$SATELLITE" --region "$REGION" --group "$GROUP" \
    --selector "$SELECTOR" --attestation-method x509pop --trust-bundle-file "$EDGE/spire-agent/registered-bundle.pem"

start_satellite
wait_for_image
