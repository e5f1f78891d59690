package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// Crash ends its process in a way that writes a dump, when the process is told to on its
// standard input.
type Crash struct {
	How string `json:"how"`
}

func (Crash) Kind() string { return "crash" }

// crashes are the ways, and what each says first.
var crashes = map[string]string{
	"panic":    "panic: ",
	"overflow": "fatal error: stack overflow",
	"quit":     "SIGQUIT: quit",
	"tell":     "panic: " + jobstest.Planted, // the control
}

func crash(began func(uid string)) jobs.TxHandler[Crash] {
	return func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Crash]) error {
		began(job.UID)
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return err
		}
		switch job.Args.How {
		case "panic":
			go panic(fmt.Sprintf("%+v %+v %+v", job.Info, tx, tx.Conn()))
		case "overflow":
			debug.SetMaxStack(1 << 20)
			go deeper(tx.Conn().Config().Password, job)
		case "quit":
			if err := syscall.Kill(os.Getpid(), syscall.SIGQUIT); err != nil {
				return err
			}
		case "tell":
			go panic(tx.Conn().Config().Password)
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// deeper has what must not be told in the arguments of each frame.
//
//nolint:staticcheck // it never returns
func deeper(password string, job *jobs.Job[Crash]) int {
	return deeper(password, job) + len(password)
}

// A worker process that holds passwords tells none when it crashes. Nor do its arguments and
// its environment, which holds the key by design, and nothing that the key opens.
func TestACrashTellsNoSecret(t *testing.T) {
	t.Parallel()
	for how, says := range crashes {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
			env.Tenant("acme", "acme")
			var stderr bytes.Buffer
			victim := exec.Command(os.Args[0])
			victim.Env = append(os.Environ(), envVictim+"=crashing", envVictimURL+"="+env.URL, "HEADGATE_KEY="+env.Key, envVictimBeat+"=0", "GOTRACEBACK=all")
			victim.Stderr = &stderr
			stdin, err := victim.StdinPipe()
			require.NoError(t, err)
			stdout, err := victim.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, victim.Start())
			ended := make(chan error, 1)
			begun := bufio.NewScanner(stdout)
			_, err = env.Client.Enqueue(context.Background(), "acme", Crash{How: how}, enqueueTo(victimQueue))
			require.NoError(t, err)
			require.True(t, begun.Scan(), "the job has not begun")
			for _, file := range []string{"cmdline", "environ"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", victim.Process.Pid, file))
				require.NoError(t, err)
				jobstest.Search(t, file, string(text))
				require.Equal(t, file == "environ", strings.Contains(string(text), env.Key), file)
			}
			_, err = stdin.Write([]byte{1})
			require.NoError(t, err)
			go func() { ended <- victim.Wait() }()
			select {
			case err = <-ended:
			case <-time.After(time.Minute):
				t.Fatal("the process does not end")
			}
			require.Error(t, err)
			require.Contains(t, stderr.String(), says)
			require.Contains(t, stderr.String(), "goroutine ")
			_, key, _ := strings.Cut(env.Key, ":")
			require.NotContains(t, stderr.String(), key)
			if how != "tell" {
				jobstest.Search(t, "a crash dump", stderr.String())
			}
		})
	}
}
