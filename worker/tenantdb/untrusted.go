package tenantdb

import (
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// refusedTLS are pgx's words for a server, or somebody between, that answers the request
// for TLS with no.
const refusedTLS = "server refused TLS connection"

func isRefusedTLS(err error) bool {
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) && strings.Contains(connect.Error(), refusedTLS)
}

// untrustedStep is what an operator does about a server that is not trusted. How says how
// an address is changed, and may be empty.
func untrustedStep(err error, how string) string {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var root *rootCertError
	switch {
	case errors.As(err, &root):
		return "; add it with `headgate ca add NAME FILE`"
	case errors.As(err, &host):
		return "; give the address a name that the server's certificate is for" + how + ", or give the server a certificate for this name"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "; renew the server's certificate; if it is valid, set this machine's clock right"
	case errors.As(err, &unknown):
		return "; add the authority that signed the server's certificate with `headgate ca add NAME FILE`, and name it in the address by sslrootcert=NAME" + how
	case isRefusedTLS(err):
		return "; nothing was sent without it: turn ssl on at the server, and see who else may answer in its place"
	}
	return "; see that the server has a certificate of an authority that is trusted, for server authentication"
}
