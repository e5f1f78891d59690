//go:build !unix

package localpg

import (
	"context"
	"errors"
	"runtime"
)

var errUnsupported = errors.New("localpg: no private Postgres on " + runtime.GOOS +
	": run headgate in WSL or a container, or set DATABASE_URL to a Postgres of your own")

// Server stands in for the real one, which needs a unix system.
type Server struct{}

// Start always fails here.
func Start(context.Context, Config) (*Server, error) { return nil, errUnsupported }

// FindBinaries always fails here.
func FindBinaries(context.Context, Config) (string, error) { return "", errUnsupported }

func (*Server) URL(string) string                     { return "" }
func (*Server) SocketDir() string                     { return "" }
func (*Server) Port() int                             { return 0 }
func (*Server) BinDir() string                        { return "" }
func (*Server) PID() int                              { return 0 }
func (*Server) Stop() error                           { return errUnsupported }
func (*Server) Restart(context.Context, string) error { return errUnsupported }
