package address_test

import (
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A secret is printed by nothing: no verb, no JSON. Reveal is the only way to it.
func ExampleNewSecret() {
	secret := address.NewSecret("p@ss")
	raw, err := json.Marshal(map[string]any{"password": secret})
	fmt.Printf("%v %+v %q %s %v\n", secret, secret, secret, raw, err)
	fmt.Println(secret.Reveal())
	// Output:
	// [redacted] [redacted] [redacted] {"password":"[redacted]"} <nil>
	// p@ss
}
