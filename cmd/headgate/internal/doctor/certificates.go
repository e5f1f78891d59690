package doctor

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// renewBefore is how long before its end a certificate is warned of.
const renewBefore = 30 * 24 * time.Hour

// ending judges the end of a certificate; ok says that it is far away.
func ending(end, now time.Time) (state string, ok bool) {
	switch {
	case now.After(end):
		return StateFail, false
	case end.Sub(now) < renewBefore:
		return StateWarn, false
	}
	return StateOK, true
}

// authorities looks when the certificates of the catalog's authorities end.
func (d *doctor) authorities(ctx context.Context, pool *pgxpool.Pool) {
	authorities := catalog.NewAuthorities(pool)
	all, err := cli.All(func(page jobs.Page) ([]catalog.Authority, string, error) { return authorities.List(ctx, page) })
	if err != nil {
		d.on("central")(StateFail, "authorities", "see that its login may read the tables of schema headgate", "%v", err)
		return
	}
	for _, a := range all {
		note, next := d.on("authority "+a.Name), "put the new certificate beside it, in one file: `headgate ca add "+a.Name+" FILE --replace`"
		state, ok := ending(a.NotAfter, time.Now())
		if state == StateFail && a.Databases == 0 {
			state, next = StateWarn, "`headgate ca remove "+a.Name+"`, since no address names it"
		}
		if ok {
			next = ""
		}
		note(state, "certificate", next, "a certificate of it ends at %s; addresses of %s name it", cli.Stamp(a.NotAfter), jobs.Count(a.Databases, "database"))
	}
}

// certificate looks when the certificate of the server ends that a connection leads to.
func (d *doctor) certificate(conn *pgx.Conn, db catalog.Database) {
	secured, isTLS := conn.PgConn().Conn().(*tls.Conn)
	if !isTLS || len(secured.ConnectionState().PeerCertificates) == 0 {
		return
	}
	end := secured.ConnectionState().PeerCertificates[0].NotAfter
	state, ok := ending(end, time.Now())
	next := "renew it on the server"
	if ok {
		next = ""
	}
	d.on("database "+db.Name)(state, "certificate", next, "the certificate of its server ends at %s", cli.Stamp(end))
}
