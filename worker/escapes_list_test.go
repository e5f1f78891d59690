package worker_test

// inBlock puts text into one block that has its own context back at the end.
func inBlock(sql string) string {
	return `DO $do$ DECLARE own text := current_setting('headgate.context'); BEGIN ` + sql +
		`; PERFORM set_config('headgate.context', own, true); END $do$`
}

// later is what a job would do when nobody looks any more.
const later = `ALTER ROLE CURRENT_USER SET work_mem = 77777`

const leak = `INSERT INTO notes (org_id, body) SELECT headgate.current_org(), body FROM notes`

// escaping is a text of SQL, and what becomes of it through each door: sql, report, tx,
// reading, step, conn.
//
//	kind      the kind of the job refuses it
//	escaped   it is rolled back, and the job ends as escaped
//	28000     the context is not one that Headgate has set
//	HG…       the ledger refuses
//	postgres  Postgres refuses
//	ok        it does nothing to others
//	…!        what it does to its own login stays: only Go outside a transaction can
type escaping struct{ sql, want string }

// The escapes by what guarantees.md, bad-inputs.md and the reviews call them. $org and $uid
// are the other tenant's, $context is one that a job of its own had.
var escapes = map[string]escaping{
	"F8 commit":                    {`COMMIT`, "kind kind escaped escaped escaped ok"},
	"F8 commit and chain":          {`COMMIT AND CHAIN`, "kind kind escaped escaped escaped postgres"},
	"F8 commit, begin":             {`COMMIT; BEGIN`, "kind kind escaped escaped escaped ok"},
	"F8 commit, begin, write":      {`COMMIT; BEGIN; INSERT INTO transfers VALUES ($org, '$uid', 0, 0, 0)`, "kind kind escaped 28000 escaped postgres"},
	"F8 rollback":                  {`ROLLBACK`, "kind kind escaped escaped escaped ok"},
	"F8 rollback and chain":        {`ROLLBACK AND CHAIN`, "kind kind escaped escaped escaped postgres"},
	"F8 two statements":            {`SELECT 1; COMMIT`, "postgres postgres escaped escaped escaped ok"},
	"F8 behind a comment":          {`; /* a */ commit`, "kind kind escaped escaped escaped ok"},
	"F8 a block commits":           {`DO $$ BEGIN COMMIT; END $$`, "postgres kind escaped escaped escaped ok"},
	"F8 a block rolls back":        {`DO $$ BEGIN ROLLBACK; END $$`, "postgres kind escaped escaped escaped ok"},
	"F8 prepare transaction":       {`PREPARE TRANSACTION 'mine'`, "kind kind escaped postgres escaped ok"},
	"F9 set_config":                {`SELECT set_config('headgate.context', '$org', true)`, "escaped escaped escaped escaped escaped ok"},
	"F9 set_config of the session": {`SELECT set_config('headgate.context', '$context', false)`, "escaped escaped escaped escaped escaped ok"},
	"F9 set":                       {`SET headgate.context = '$org'`, "kind kind escaped escaped escaped ok"},
	"F9 set local":                 {`SET LOCAL headgate.context = '$context'`, "kind kind escaped escaped escaped ok"},
	"F9 reset all":                 {`RESET ALL`, "kind kind escaped escaped escaped ok"},
	"F9 discard all":               {`DISCARD ALL`, "kind kind postgres postgres postgres postgres"},
	"F9 reset role":                {`RESET ROLE`, "kind kind ok ok ok ok"},
	"F9 set role":                  {`SET ROLE headgate_job`, "kind kind escaped escaped escaped ok"},
	"F9 session authorization":     {`SET SESSION AUTHORIZATION headgate_job`, "kind kind postgres postgres postgres postgres"},
	"F9 row_security":              {`SET LOCAL row_security = off`, "kind kind escaped escaped escaped ok"},
	"F9 replication role":          {`SET session_replication_role = replica`, "kind kind postgres postgres postgres postgres"},
	"F9 a view of its own":         {`CREATE TEMP VIEW mine AS SELECT * FROM notes; SELECT * FROM mine`, "postgres kind ok postgres ok ok"},
	"F9 a definer of its own":      {`CREATE FUNCTION pg_temp.mine() RETURNS SETOF notes LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM notes'; SELECT count(*) FROM pg_temp.mine()`, "postgres kind escaped postgres escaped ok"},
	"F9 a copy of a function":      {`CREATE FUNCTION pg_temp.current_org() RETURNS bigint LANGUAGE sql AS 'SELECT $org::bigint'; SET LOCAL search_path = pg_temp, headgate, public; ` + leak, "postgres kind escaped postgres escaped ok"},
	"F9 the policy":                {`DROP POLICY org ON notes`, "postgres kind postgres postgres postgres postgres"},
	"F9 off":                       {`ALTER TABLE notes DISABLE ROW LEVEL SECURITY`, "postgres kind postgres postgres postgres postgres"},
	"C4 set":                       {`ALTER ROLE CURRENT_USER SET statement_timeout = 1`, "kind kind escaped postgres escaped ok!"},
	"C4 set in the database":       {`DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`, "escaped kind escaped postgres escaped ok!"},
	"C4 reset":                     {`ALTER ROLE CURRENT_USER RESET ALL`, "kind kind ok postgres ok ok"},
	"C4 password":                  {`ALTER ROLE CURRENT_USER PASSWORD 'hacked'`, "kind kind escaped postgres escaped ok!"},
	"C4 password in a block":       {`DO $$ BEGIN EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD ''hacked'''; END $$`, "escaped kind escaped postgres escaped ok!"},
	"C4 password by name":          {`ALTER USER $login PASSWORD NULL`, "kind kind escaped postgres escaped ok!"},
	"C4 password, taken back":      {`DO $$ BEGIN EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD ''hacked'''; RAISE 'x'; EXCEPTION WHEN raise_exception THEN END $$`, "escaped kind escaped postgres escaped ok"},
	"C4 password, outside":         {`ROLLBACK; ALTER ROLE CURRENT_USER PASSWORD 'hacked'`, "kind kind escaped! escaped! escaped! ok!"},
	"C4 rename":                    {`ALTER ROLE $login RENAME TO mine`, "kind kind postgres postgres postgres postgres"},
	"C4 grant":                     {`GRANT headgate_job TO PUBLIC`, "postgres kind postgres postgres postgres postgres"},
	"C4 grant of itself":           {`GRANT $login TO headgate_job`, "postgres kind postgres postgres postgres postgres"},
	"C4 revoke":                    {`REVOKE headgate_job FROM CURRENT_USER`, "postgres kind postgres postgres postgres postgres"},
	"C4 create":                    {`CREATE ROLE mine`, "kind kind postgres postgres postgres postgres"},
	"C4 of the database":           {`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1', current_database()); END $$`, "postgres kind postgres postgres postgres postgres"},
	"C5 in one block":              {inBlock(`PERFORM set_config('headgate'||'.context', '$context', true); ` + leak), "28000 kind 28000 postgres 28000 28000"},
	"C5 another organisation":      {inBlock(`PERFORM set_config('headgate.context', replace(own, '|' || headgate.current_org() || '|', '|$org|'), true); ` + leak), "28000 kind 28000 postgres 28000 28000"},
	"C5 the old form":              {inBlock(`PERFORM set_config('headgate'||'.org','$org',true); ` + leak + ` WHERE org_id = $org; PERFORM set_config('headgate'||'.org','',true)`), "ok kind ok postgres ok ok"},
	"C5 an error is caught":        {inBlock(`BEGIN PERFORM set_config('headgate.context', '$context', true); DELETE FROM notes; EXCEPTION WHEN OTHERS THEN END`), "ok kind ok ok ok ok"},
	"C5 in one statement":          {`WITH a AS MATERIALIZED (SELECT set_config('headgate.context', '$context', true) AS own) SELECT body FROM notes, a WHERE a.own <> ''`, "28000 28000 28000 28000 28000 28000"},
	"C6 finish":                    {`SELECT headgate.finish_job('$org|$uid|0||', '', '{}')`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 end":                       {`SELECT headgate.end_job('', '{}', ARRAY['a','b','c'], ARRAY['a','b','c'])`, "HG002 kind HG002 postgres tombstone tombstone"},
	"C6 end late":                  {`SELECT headgate.end_late('another', '{}', ARRAY['a','b','c'], ARRAY['a','b','c'])`, "ok kind ok postgres ok ok"},
	"C6 tombstone":                 {`SELECT headgate.tombstone('$org|$uid|' || extract(epoch FROM now())::bigint || '||', repeat('0', 64), 1000)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 tombstone, escaped":        {`SELECT U&"he\0061dgate".tombstone('$org|$uid|0||', '', 1000)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 tombstone, executed":       {`DO $do$ BEGIN EXECUTE 'SELECT head' || 'gate.tombstone(''$org|$uid|0||'', NULL, 1000)'; END $do$`, "HG004 kind HG004 HG004 HG004 HG004"},
	"C6 claim":                     {`SELECT headgate.claim_job('$org|$uid|0||', '', 1, '', 0, 0, 0)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 begin":                     {`SELECT headgate.begin_job('$org|$uid|0||', '', '', 1, '', 0, 0, 0)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 enter":                     {`SELECT headgate.enter_job('$org|$uid|0||', NULL, 1, '', 0, 0, 0)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 the session's end":         {`SELECT headgate.end_session()`, "ok ok ok ok ok ok"},
	"C6 a session of its own":      {`PREPARE headgate_session AS SELECT 1`, "kind kind ok ok postgres postgres"},
	"C6 the mark":                  {`SELECT headgate.leave_centre('0||0||', '', NULL, NULL, 'mine', NULL)`, "HG004 HG004 HG004 HG004 HG004 HG004"},
	"C6 the key":                   {`SELECT * FROM headgate.signing_key`, "postgres postgres postgres postgres postgres postgres"},
	"C6 the signature":             {`SELECT headgate.hmac('', '', 'x')`, "postgres postgres postgres postgres postgres postgres"},
	"C6 the ledger":                {`DELETE FROM headgate.ledger`, "postgres kind postgres postgres postgres postgres"},
	"C6 a ledger of its own":       {`CREATE TEMP TABLE ledger (org_id bigint, job_uid uuid, step text, state text, result jsonb, done_at timestamptz); SET LOCAL search_path = pg_temp, headgate`, "postgres kind ok postgres ok ok"},
	"C6 the fence":                 {`UPDATE headgate.fence SET generation = 9`, "postgres kind postgres postgres postgres postgres"},
	"at COMMIT a trigger": {`DO $do$ BEGIN CREATE TEMP TABLE d (a int); CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ` + later + `; RETURN NEW; END';
		CREATE CONSTRAINT TRIGGER t AFTER INSERT ON d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.f(); INSERT INTO d VALUES (1); END $do$`, "escaped kind escaped postgres escaped ok!"},
	"at COMMIT a trigger again": {`DO $do$ BEGIN CREATE TEMP TABLE d (a int); CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.a = 1 THEN SET CONSTRAINTS ALL DEFERRED; INSERT INTO d VALUES (2); ELSE ` + later + `; END IF; RETURN NEW; END';
		CREATE CONSTRAINT TRIGGER t AFTER INSERT ON d DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.f(); INSERT INTO d VALUES (1); SET CONSTRAINTS ALL IMMEDIATE; END $do$`, "postgres kind escaped postgres escaped ok!"},
	"at COMMIT a cursor": {`DO $do$ BEGIN CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE plpgsql AS 'BEGIN ` + later + `; RETURN 1; END';
		EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.f()'; END $do$`, "escaped kind escaped postgres escaped ok!"},
	"at COMMIT a cursor without a function": {`DO $do$ BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'; END $do$`, "escaped kind escaped escaped escaped ok"},
	"default privileges":                    {`ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO headgate_job`, "escaped kind escaped postgres escaped ok"},
	"a function for the job alone":          {`DO $do$ BEGIN CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION pg_temp.f(); END $do$`, "ok kind ok postgres ok ok"},
	"-- leave a lock":                       {`SELECT pg_advisory_lock(7)`, "ok ok ok ok ok ok"},
	"-- leave a statement":                  {`PREPARE mine AS SELECT 1`, "kind kind ok ok ok ok"},
	"-- leave a table":                      {`CREATE TEMP TABLE mine (a int)`, "ok kind ok postgres ok ok"},
	"-- leave a setting":                    {`SET search_path = nowhere`, "kind kind ok ok ok ok"},
}
