//go:build unix

package localpg

import (
	"context"
	"errors"
	"fmt"
)

// Stop ends the server: sessions are cut off and what is acknowledged is on
// disk. A server that does not end in 15 seconds is stopped the hard way, which
// costs its next start a recovery. A temporary directory is removed. Calling it
// again returns what the first call did.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return s.stopErr
	}
	s.stopped = true
	if s.stopErr = s.proc.Load().stop("fast"); s.stopErr != nil {
		return s.stopErr // the directory is still in use
	}
	if err := s.dir.close(); err != nil {
		s.stopErr = fmt.Errorf("localpg: cleaning up after the server: %w", err)
	}
	return s.stopErr
}

// Restart stops the server in a mode, fast (a clean shutdown) or immediate (like
// a crash: sessions die, the next start recovers), and starts it again with the
// same directory, address and password. When it fails the server is down; Stop
// still has to be called.
func (s *Server) Restart(ctx context.Context, mode string) error {
	if _, ok := shutdowns[mode]; !ok {
		return fmt.Errorf("localpg: restart mode %q: must be fast or immediate", mode)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("localpg: restarting a server that was stopped: start a new one")
	}
	if err := s.proc.Load().stop(mode); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartTimeout, fmt.Errorf("not ready after %s", s.cfg.StartTimeout))
	defer cancel()
	return s.launch(ctx)
}
