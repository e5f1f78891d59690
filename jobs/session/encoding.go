package session

import "fmt"

// Encoding says what jobs must know of a database whose encoding is not UTF-8, and
// what its owner can do; "" for one that is.
//
// Sessions speak UTF-8 everywhere, so text arrives right wherever the server
// converts. SQL_ASCII means that it does not: it keeps bytes as they come.
func Encoding(server string) (says, next string) {
	const move = "to leave it, restore a dump into a database made with ENCODING 'UTF8'"
	switch server {
	case "UTF8":
		return "", ""
	case "SQL_ASCII":
		return "the database's encoding is SQL_ASCII: it keeps bytes as they come and checks none of them; jobs write and expect UTF-8",
			"see that the application writes UTF-8 too (client_encoding UTF8); " + move
	}
	return fmt.Sprintf("the database's encoding is %s: Postgres converts jobs' text, which is UTF-8, and refuses what %s lacks (22P05: the job fails)", server, server), move
}
