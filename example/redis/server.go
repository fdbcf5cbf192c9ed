package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of our own, on loopback, which keeps nothing when it ends.
type server struct {
	addr, dir string
	cmd       *exec.Cmd
	ended     chan struct{} // closed when cmd has
}

// newServer starts a server on a free port.
func newServer(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp("", "cdfauth-redis-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	for range 3 { // another program may have got the port before us
		if s.addr, err = freeAddr(); err == nil {
			err = s.start(ctx)
		}
		if err == nil {
			return s, nil
		}
	}
	s.close()
	return nil, err
}

// freeAddr keeps out of the range that outgoing connections take their ports from: while the server is down, one of those could get its port.
func freeAddr() (string, error) {
	var err error
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))
		l, e := net.Listen("tcp", addr)
		if err = e; err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}

// start also starts a stopped server again, empty, and returns when it answers.
func (s *server) start(ctx context.Context) error {
	host, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--bind", host, "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no", "--loglevel", "warning")
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("%w (apt-get install redis-server)", err)
	}
	ended := make(chan struct{})
	s.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd)
	rdb := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1, DialerRetries: 1, DialerRetryTimeout: 1, PoolSize: 1000}) // after so many failures it would try once a second
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for rdb.Ping(ctx).Err() != nil {
		select {
		case <-ended:
			return errors.New("redis-server ended at once: is its port taken?")
		default:
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("redis-server does not answer: %w", ctx.Err())
		}
	}
	return nil
}

// stop returns when the server has ended.
func (s *server) stop(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig)
	<-s.ended
}

func (s *server) close() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.stop(syscall.SIGKILL)
	}
	os.RemoveAll(s.dir)
}
