package catalog_test

import (
	"fmt"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A new key is put in front; the old one stays behind it, to open what it
// sealed.
func ExampleNewKeyRing() {
	old, fresh := catalog.NewKey("k1"), catalog.NewKey("k2")
	ring, err := catalog.NewKeyRing(address.NewSecret(fresh.Reveal() + "," + old.Reveal()))
	fmt.Println(ring.IDs(), err)
	fmt.Println(ring, old)
	// Output:
	// [k2 k1] <nil>
	// [redacted key ring] [redacted]
}
