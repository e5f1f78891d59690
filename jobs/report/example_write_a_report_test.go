package report_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/worker"
)

// A report asks one tenant's database one question. The answer is a CSV file in a bucket,
// here a folder.
func Example_writeAReport() {
	env, end := jobstest.Example()
	defer end()
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE brands AS SELECT * FROM (VALUES (1, 'Fern'), (2, 'Moss & Reed')) AS b (id, name);
		GRANT SELECT ON brands TO headgate_job`})
	env.Tenant("acme", "acme-db")
	dir, err := os.MkdirTemp("", "reports")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bucket, err := report.OpenFolder(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = bucket.Close() }()
	env.Work(nil, func(w *worker.Worker) { worker.ReadOnly(w, report.New(bucket)) })

	outcome := env.Run("acme", report.Args{Name: "brands", Query: `SELECT id, name FROM brands WHERE id <= $1 ORDER BY id`, Args: report.Scalars{2}})
	fmt.Println(outcome.State, outcome.Result.Rows)
	files, _ := filepath.Glob(filepath.Join(dir, "acme", "brands-*.csv"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		fmt.Print(string(text))
		fmt.Println(err)
	}
	// Output:
	// succeeded 2
	// id,name
	// 1,Fern
	// 2,Moss & Reed
	// <nil>
}
