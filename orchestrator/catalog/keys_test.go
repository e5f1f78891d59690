package catalog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// environment is a stand-in for os.Getenv.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestLoadKeyRing(t *testing.T) {
	t.Parallel()
	k1, k2 := NewKey("k1").Reveal(), NewKey("k2").Reveal()
	for _, text := range []string{k1 + "," + k2, k1 + "\n" + k2 + "\n", " " + k1 + " ,\r\n\n " + k2} {
		ring, err := LoadKeyRing(environment("HEADGATE_KEY", text))
		require.NoError(t, err)
		require.Equal(t, []string{"k1", "k2"}, ring.IDs())
	}
}

func TestLoadKeyRingWithoutKey(t *testing.T) {
	t.Parallel()
	for _, env := range []func(string) string{environment(), environment("HEADGATE_KEY", " \n,")} {
		_, err := LoadKeyRing(env)
		require.ErrorIs(t, err, ErrNoKey)
		require.ErrorContains(t, err, `export HEADGATE_KEY="k1:$(openssl rand -base64 32)"`)
	}
}

func TestKeysFromEnv(t *testing.T) {
	t.Setenv("HEADGATE_KEY", "")
	t.Setenv("HEADGATE_KEY_FILE", "")
	_, err := KeysFromEnv()
	require.ErrorIs(t, err, ErrNoKey)

	t.Setenv("HEADGATE_KEY", NewKey("k7").Reveal())
	ring, err := KeysFromEnv()
	require.NoError(t, err)
	require.Equal(t, []string{"k7"}, ring.IDs())
}

func TestLoadKeyRingRefusesBadKeys(t *testing.T) {
	t.Parallel()
	good := NewKey("k1").Reveal()
	material := strings.TrimPrefix(good, "k1:")
	const how = `; make one with: export HEADGATE_KEY="k1:$(openssl rand -base64 32)"`
	noID := "HEADGATE_KEY: key 1 of the ring: it must begin with an id of lower-case letters and digits and a colon, as in k1:…" + how
	noKey := `HEADGATE_KEY: key 1 of the ring: "k1" is not followed by the base64 of 32 bytes` + how
	for text, want := range map[string]string{
		material:               noID,
		material + ":k1":       noID,
		"K1:" + material:       noID,
		":" + material:         noID,
		"k1:":                  noKey,
		"k1:" + material[1:]:   noKey,
		"k1:" + material + "=": noKey,
		"k1:x" + material:      noKey,
		"k1:" + base64.StdEncoding.EncodeToString(make([]byte, 16)): noKey,
		good + "," + good: `HEADGATE_KEY: key 2 of the ring: the id "k1" is given twice`,
	} {
		_, err := LoadKeyRing(environment("HEADGATE_KEY", text))
		require.EqualError(t, err, want)
		require.NotContains(t, err.Error(), material[1:20])
	}
	_, err := LoadKeyRing(environment("HEADGATE_KEY", good, "HEADGATE_KEY_FILE", "/x"))
	require.EqualError(t, err, "both HEADGATE_KEY and HEADGATE_KEY_FILE are set: unset one of them")
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(NewKey("k1").Reveal()+"\n"), 0o600))
	for _, mode := range []os.FileMode{0o600, 0o400, 0o200, 0o644, 0o640, 0o604, 0o660, 0o700, 0o666} {
		require.NoError(t, os.Chmod(file, mode))
		if mode == 0o200 && os.Getuid() != 0 {
			continue // not to be read
		}
		ring, err := LoadKeyRing(environment("HEADGATE_KEY_FILE", file))
		if mode&^0o600 == 0 {
			require.NoError(t, err, "%#o", mode)
			require.Equal(t, []string{"k1"}, ring.IDs())
			continue
		}
		require.EqualError(t, err, fmt.Sprintf("HEADGATE_KEY_FILE: %s has mode %#o; it must be 0600 or stricter: run chmod 600 %s", file, mode, file))
	}
}

func TestKeyFileRefusesOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe, empty, bad := filepath.Join(dir, "pipe"), filepath.Join(dir, "empty"), filepath.Join(dir, "bad")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	require.NoError(t, os.WriteFile(bad, []byte(planted), 0o600))

	for file, want := range map[string]string{
		dir:          "is not a regular file",
		pipe:         "is not a regular file",
		"/dev/null":  "is not a regular file",
		dir + "/not": "no such file or directory",
		bad:          "key 1 of the ring: it must begin with an id",
	} {
		_, err := LoadKeyRing(environment("HEADGATE_KEY_FILE", file))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "HEADGATE_KEY_FILE: ")
		require.NotContains(t, err.Error(), planted)
	}
	_, err := LoadKeyRing(environment("HEADGATE_KEY_FILE", empty))
	require.ErrorIs(t, err, ErrNoKey)
}

func TestKeyRingIsNeverPrinted(t *testing.T) {
	t.Parallel()
	text := NewKey("k1")
	_, encoded, _ := strings.Cut(text.Reveal(), ":")
	key, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	ring, err := NewKeyRing(text)
	require.NoError(t, err)

	var out bytes.Buffer
	for _, value := range []any{ring, *ring, text, []any{ring}, struct{ r *KeyRing }{ring}, New(nil, ring), *New(nil, ring)} {
		for _, verb := range "vsqdxXobtTpw" {
			for _, flags := range []string{"", "+", "#"} {
				fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", value)
			}
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "value", value)
		_ = json.NewEncoder(&out).Encode(value)
		assert.Equal(dump{&out}, value, "something else")
	}
	printed := strings.ReplaceAll(out.String(), "\n", "")
	for _, form := range []string{
		encoded, string(key), fmt.Sprintf("%x", key), fmt.Sprintf("%v", key), fmt.Sprintf("%#v", key), fmt.Sprintf("% x", key[:8]),
		fmt.Sprintf("%x", reversedWords(key)[:8]),
	} {
		require.NotContains(t, printed, strings.Trim(form, "[]"))
	}
	require.Equal(t, "[redacted key ring]", fmt.Sprintf("%+v", ring))
}

// reversedWords is a key as a key schedule may hold it.
func reversedWords(key []byte) []byte {
	out := bytes.Clone(key)
	for i := 0; i < len(out); i += 4 {
		out[i], out[i+1], out[i+2], out[i+3] = out[i+3], out[i+2], out[i+1], out[i]
	}
	return out
}

// dump keeps what a failed assertion prints.
type dump struct{ *bytes.Buffer }

func (d dump) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(d, format, args...) }
