package address

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// ErrUndecryptable says that an address cannot be had from its sealed form: the
// key is missing, or the bytes are not what was sealed for this place. Trying
// again does not help; a person must bring the key or set the address anew.
var ErrUndecryptable = sentinel("undecryptable", "the sealed address cannot be opened")

// encoded is an Address as it is sealed. The version is for the day when a part
// is added: an older program must then refuse rather than connect without it.
type encoded struct {
	Version  int    `json:"v"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Database string `json:"database"`
	User     string `json:"user"`
	Password string `json:"password"`
	SSLMode  string `json:"sslmode,omitempty"`
	RootCert string `json:"rootcert,omitempty"`
	Timeout  int64  `json:"connect_timeout_ms,omitempty"`
	Session  string `json:"target_session_attrs,omitempty"`
}

const encodingVersion = 1

// Encode returns the address, password in clear, as the bytes that are to be
// sealed. Seal them at once: they are the one form of an address that is not
// safe to print. Timeouts are kept to the millisecond.
func Encode(a Address) []byte {
	// Marshalling a struct of strings and numbers cannot fail.
	plain, _ := json.Marshal(encoded{
		Version: encodingVersion,
		Host:    a.Host, Port: a.Port, Database: a.Database,
		User: a.User, Password: a.Password.Reveal(),
		SSLMode: a.SSLMode, RootCert: a.RootCert,
		Timeout: a.ConnectTimeout.Milliseconds(), Session: a.TargetSessionAttrs,
	})
	return plain
}

// Decode returns the address that Encode was given. Its error repeats nothing
// of the input.
func Decode(plain []byte) (Address, error) {
	var e encoded
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	err := dec.Decode(&e)
	if _, more := dec.Token(); err != nil || !errors.Is(more, io.EOF) || e.Version != encodingVersion {
		return Address{}, errors.New("the address is in a form that this program does not know; a newer one may have written it")
	}
	return Address{
		Host: e.Host, Port: e.Port, Database: e.Database,
		User: e.User, Password: NewSecret(e.Password),
		SSLMode: e.SSLMode, RootCert: e.RootCert,
		ConnectTimeout:     time.Duration(e.Timeout) * time.Millisecond,
		TargetSessionAttrs: e.Session,
	}, nil
}

// sentinel is jobs.Sentinel, for a package that imports nothing.
func sentinel(code, sentence string) error { return &coded{code, sentence} }

type coded struct{ code, sentence string }

func (c *coded) Error() string { return c.sentence }

func (c *coded) Code() string { return c.code }
