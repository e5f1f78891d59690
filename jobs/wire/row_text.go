package wire

import "fmt"

// MaxRowText is how many bytes the text of a row may have that a sync or an import reads, and
// MaxFieldText one field of it. A row of a tenant has a few hundred.
const (
	MaxRowText   = 256 << 10
	MaxFieldText = 64 << 10
)

// RowsBegin and RowsEnd stand before and behind a table, or a query in parentheses. The whole
// returns the text of an object of JSON for each row. A longer text than MaxRowText does not
// leave the server: an array stands for it, with the name of the longest column, that
// column's bytes and the row's.
var RowsBegin = fmt.Sprintf(`SELECT CASE WHEN pg_catalog.octet_length(r.j) OPERATOR(pg_catalog.<=) %d THEN r.j ELSE (
    SELECT pg_catalog.jsonb_build_array(e.key, pg_catalog.octet_length(e.value), pg_catalog.octet_length(r.j))::pg_catalog.text
    FROM pg_catalog.jsonb_each_text(r.j::pg_catalog.jsonb) e ORDER BY pg_catalog.octet_length(e.value) DESC NULLS LAST LIMIT 1) END
FROM (SELECT pg_catalog.to_jsonb(q)::pg_catalog.text AS j FROM `, MaxRowText)

const RowsEnd = ` AS q OFFSET 0) r`
