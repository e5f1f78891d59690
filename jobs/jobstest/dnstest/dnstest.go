// Package dnstest is a DNS server on loopback that has TXT records and nothing else, for
// tests of what asks the DNS.
package dnstest

import (
	"context"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers over UDP from its records. It is safe for concurrent use.
type Server struct {
	conn net.PacketConn

	mu      sync.Mutex
	records map[string][]string
	silent  bool
	asked   map[string]int
}

// New starts a server without records, which ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{conn: conn, records: map[string][]string{}, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve()
	}()
	t.Cleanup(func() {
		_ = conn.Close() // ends serve
		<-done
	})
	return s
}

// Addr is where the server listens, as host:port.
func (s *Server) Addr() string { return s.conn.LocalAddr().String() }

// Set gives a name, without the dot at its end, these TXT records; none takes them away.
func (s *Server) Set(name string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[name+"."] = values
}

// Silence makes the server answer nothing.
func (s *Server) Silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

// Asked is how often a name, without the dot at its end, has been asked for.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name+"."]
}

// Resolver asks this server alone.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.Addr())
	}}
}

func (s *Server) serve() {
	packet := make([]byte, 1<<16)
	for {
		n, client, err := s.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := s.answer(packet[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, client) // who asks asks again
		}
	}
}

// answer returns the packet that answers one, nil for none.
func (s *Server) answer(packet []byte) []byte {
	var asked dnsmessage.Message
	if asked.Unpack(packet) != nil || len(asked.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := asked.Questions[0]
	s.asked[q.Name.String()]++
	if s.silent {
		return nil
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: asked.ID, Response: true, Authoritative: true, RCode: dnsmessage.RCodeSuccess}, Questions: asked.Questions}
	values := s.records[q.Name.String()]
	if len(values) == 0 {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, value := range values {
		reply.Answers = append(reply.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.TXTResource{TXT: []string{value}},
		})
	}
	answer, err := reply.Pack()
	if err != nil {
		return nil
	}
	return answer
}
