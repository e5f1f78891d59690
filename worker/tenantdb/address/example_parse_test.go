package address_test

import (
	"fmt"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

func ExampleParse() {
	a, err := address.Parse("postgres://headgate_job:p%40ss@db1.example.com/acme")
	fmt.Println(a, a.Password, err)
	fmt.Println(a.Check(address.TLS, []string{"db1.example.com"}))

	_, err = address.Parse("postgres://headgate_job@db1.example.com/acme")
	fmt.Println(err)
	_, err = address.Parse("host=db1.example.com user=u password=p dbname=acme pool_max_conns=100000")
	fmt.Println(err)
	// Output:
	// headgate_job@db1.example.com:5432/acme [redacted] <nil>
	// <nil>
	// password missing
	// option "pool_max_conns" is not allowed: the number of connections belongs to the server's budget
}
