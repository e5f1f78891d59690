package provision

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// The exchange of RFC 7677, section 3: a server that stores our verifier takes the client's
// proof, and answers with the server's signature.
func TestVerifierOfTheRFC(t *testing.T) {
	t.Parallel()
	decode := func(text string) []byte {
		raw, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		return raw
	}
	v, err := verifierOf(address.NewSecret("pencil"), decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
	require.NoError(t, err)
	head, keys, _ := strings.Cut(strings.TrimPrefix(v, "SCRAM-SHA-256$"), "$")
	require.Equal(t, "4096:W22ZaJ0SNY7soEsUEjb6gQ==", head)
	stored, server, _ := strings.Cut(keys, ":")

	const said = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	require.Equal(t, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", base64.StdEncoding.EncodeToString(mac(decode(server), said)))
	client := mac(decode(stored), said)
	for i, b := range decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=") {
		client[i] ^= b
	}
	sum := sha256.Sum256(client)
	require.True(t, hmac.Equal(decode(stored), sum[:]))
}

func TestVerifiersHaveTheirOwnSalt(t *testing.T) {
	t.Parallel()
	one, err := verifier(address.NewSecret("planted-password"))
	require.NoError(t, err)
	two, err := verifier(address.NewSecret("planted-password"))
	require.NoError(t, err)
	require.NotEqual(t, one, two)
	require.NotContains(t, one, "planted")
}
