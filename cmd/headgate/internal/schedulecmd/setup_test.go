package schedulecmd

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }
