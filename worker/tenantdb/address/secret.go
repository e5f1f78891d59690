package address

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a string that cannot be printed: through fmt, log/slog, JSON and
// text encoding it says [redacted], empty or not. Two secrets are equal (==)
// when their values are. The zero value is the empty secret. A Secret is
// immutable and safe for concurrent use.
type Secret struct {
	// The value XORed with this process's pad. It is no encryption; it is for
	// the printers that go round every method: %p, and the dump that a failed
	// testify assertion prints.
	masked string
}

var pad = func() (p [64]byte) {
	_, _ = rand.Read(p[:]) // never fails, see crypto/rand
	return p
}()

// NewSecret returns s as a Secret.
func NewSecret(s string) Secret { return Secret{masked: mask(s)} }

// Reveal returns the value in clear. Call it to connect or to seal, and keep
// the result out of every error, log line and struct.
func (s Secret) Reveal() string { return mask(s.masked) }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.masked == "" }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns the string "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func mask(s string) string {
	out := []byte(s)
	for i := range out {
		out[i] ^= pad[i%len(pad)]
	}
	return string(out)
}
