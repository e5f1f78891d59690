package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/health"
	"github.com/headgate/headgate/cmd/internal/cli"
)

const healthcheckLong = `Ask the process that was started with --health ADDRESS whether it is ready, and
exit with 0 if it is, 1 if it is not, and 5 if nobody answers. An image without a
shell or curl asks so.`

func healthcheckCommand(app *cli.App) *cobra.Command {
	path, wait := "", 5*time.Second
	cmd := &cobra.Command{
		Use: "healthcheck ADDRESS", Short: "Ask a running process whether it is ready",
		Long: healthcheckLong, Args: cli.Args("ADDRESS"),
		Example: "  headgate healthcheck 9180\n  headgate healthcheck 9180 --ask livez",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.OneOf("--ask", path, []string{"readyz", "livez", "startupz"}); err != nil {
			return err
		}
		addr, err := health.Address(args[0])
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return askHealth(ctx, app, "http://"+addr+"/"+path)
	})
	cmd.Flags().StringVar(&path, "ask", "readyz", "what is asked: readyz, livez, startupz")
	cli.DurationVar(cmd.Flags(), &wait, "wait", wait, "how long the answer is waited for")
	cli.Complete(cmd, "ask", []string{"readyz", "livez", "startupz"})
	return cmd
}

// mostAnswer bounds what is read of an answer.
const mostAnswer = 64 << 10

func askHealth(ctx context.Context, app *cli.App, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?verbose", http.NoBody)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy of the environment's
	answer, err := client.Do(req)
	if err != nil {
		return cli.InWords(err, fmt.Sprintf("nobody answers at %s: %v", url, cli.Cause(err)))
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostAnswer))
	if err != nil {
		return cli.InWords(err, fmt.Sprintf("the answer of %s ended early: %v", url, cli.Cause(err)))
	}
	switch {
	case answer.Header.Get("Content-Security-Policy") != "": // which the pages have, and the health listener has not
		return errors.New("the pages of --listen answer there: give the address of --health")
	case answer.StatusCode == http.StatusNotFound:
		return errors.New("it does not know " + req.URL.Path + ": give the address of a process's --health")
	}
	if err := app.Print("%s", strings.TrimRight(string(text), "\n")); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New("it is not well: " + answer.Status)
	}
	return nil
}
