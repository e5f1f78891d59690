// Package address holds what both halves know about connections: an [Address],
// the [Secret] in it, the [Transport] that a server allows, and the rules that
// say which addresses may be used at all. Place is the answer to "where does
// this tenant live".
//
// An address passes three gates on its way to a connection:
//
//	text ──Parse──▶ Address ──Check──▶ sealed in the catalog ──CheckIP──▶ connection
//	      allowed           the server's       (Encode, Decode)   where the name
//	      keys only         hosts, TLS                            really leads
//
// The package refuses more than the drivers do. Where pgx and libpq fill a gap
// from PGPASSWORD, a password file or a service file, Parse says that a part is
// missing; it reads no environment and opens no file. What it refuses it names
// by field, and never repeats a password or anything that may be a piece of one.
//
// Its weakness: a password must be in a form that is read in one way only. One
// that holds spaces is quoted, one that holds / ? # or @ is percent-encoded;
// where the text is doubtful the error leaves out the offending value.
package address
