package provision

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// scramIterations is what Postgres itself uses.
const scramIterations = 4096

// verifier returns what a server stores of a password (RFC 5802 and 7677), as CREATE ROLE
// takes it. So the password itself is in no statement, no log and no pg_stat_statements. The
// password must be ASCII, which needs no SASLprep.
func verifier(password address.Secret) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	return verifierOf(password, salt)
}

func verifierOf(password address.Secret, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password.Reveal(), salt, scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("deriving a key from a password: %w", err)
	}
	stored := sha256.Sum256(mac(salted, "Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, encode(salt), encode(stored[:]), encode(mac(salted, "Server Key"))), nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
