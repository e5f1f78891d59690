package migrations

import "slices"

// The roles of a central database, by the ends of their names; before each stands the
// prefix and an underscore.
const (
	roleOwner   = "owner"   // what migrates: it owns the schemas, and needs no grant
	roleWorker  = "worker"  // headgate serve, headgate worker, worker programs
	roleAPI     = "api"     // applications with the Go client, and the commands
	roleEnqueue = "enqueue" // programs in any language: headgate.enqueue and nothing else
	roleRead    = "read"    // programs that look: the views of headgate_api

	rolePublic = "PUBLIC" // everybody, with no prefix
)

// RoleNames are the ends of the roles' names, in the order in which they are shown.
var RoleNames = []string{roleOwner, roleWorker, roleAPI, roleEnqueue, roleRead}

// Letters are those of Postgres's own access lists: r SELECT, a INSERT, w UPDATE,
// d DELETE, D TRUNCATE, U USAGE, X EXECUTE.
var letters = map[byte]string{
	'r': "SELECT", 'a': "INSERT", 'w': "UPDATE", 'd': "DELETE", 'D': "TRUNCATE", 'U': "USAGE", 'X': "EXECUTE",
}

// right is what the roles may do with one object.
type right struct{ name, worker, api string }

// queueRights are those on River's tables, in the schema that has the queue.
var queueRights = []right{
	{"river_job", "rawd", "raw"},
	{"river_job_id_seq", "U", "U"},
	{"river_leader", "rawd", ""},
	{"river_migration", "", ""},
	{"river_migration_id_seq", "", ""},
	{"river_notification", "rad", ""},
	{"river_notification_id_seq", "U", ""},
	{"river_queue", "rawd", "r"},
}

// tableRights are those on the tables, views and sequences of schema headgate.
// TestGrantsOfTheRoles holds them against what there is. What a statement needs
// TestStatementsArePermitted says, and TestRolesDoTheirWork what functions and triggers do.
var tableRights = []right{
	// The catalog.
	{"tenants", "r", "raw"},
	{"tenant_domains", "r", "rawd"},
	{"tenant_emails", "r", "rad"},
	{"domain_claims", "", "rad"},
	{"plans", "r", "rawd"},
	{"features", "r", "rawd"},
	{"feature_defaults", "r", "r"},
	{"feature_gates", "r", "rawd"},
	{"brands", "r", "rawd"},
	{"regions", "r", "rawd"},
	{"plan_features", "r", "r"},
	{"tenant_documents", "r", "r"},
	{"org_ids", "", "rw"},
	{"erasures", "r", "raw"},
	{"databases", "r", "rawd"},
	{"servers", "r", "rawd"},
	{"centre", "rw", "rw"},
	{"centre_tokens", "rawd", "r"},
	{"adoptions", "rwd", "rawd"},
	{"database_intents", "r", "rawd"},
	{"certificate_authorities", "r", "rawd"},
	{"keys", "", "raw"},
	{"sealed_values", "r", "r"},

	// What people decide.
	{"tenant_limits", "r", "rawd"},
	{"plan_limits", "r", "rawd"},
	{"kind_limits", "r", "rawd"},
	{"queue_limits", "r", "rawd"},
	{"pauses", "rwd", "rawd"},
	{"active_pauses", "r", "r"},
	{"all_pauses", "r", "r"},
	{"enqueue_grants", "", "rawd"},
	{"named_slugs", "", "r"},

	// Requests.
	{"idempotency_keys", "rwd", "rawd"},

	// Schedules.
	{"schedules", "rawd", "rawd"},
	{"schedule_places", "U", "U"},
	{"selector_changes", "rawd", "rawd"},
	{"selector_changes_id_seq", "", ""},
	{"selector_scopes", "rawd", "rawd"},
	{"selector_scopes_id_seq", "", ""},
	{"scoped_tenants", "r", "r"},
	{"occurrences", "rawd", "raw"},
	{"durations", "rawd", "r"},
	{"calendars", "r", "rawd"},
	{"closures", "r", "rawd"},
	{"fleets", "r", "rawd"},
	{"fleet_overrides", "r", "rawd"},

	// The history. The months are reached through outcomes, the days through job_logs.
	{"outcomes", "ra", "ra"},
	{"outcomes_default", "rd", ""},
	{"job_logs", "ra", "r"},
	{"job_logs_default", "rd", ""},

	// Claims.
	{"lanes", "rawdD", "r"},
	{"lane_groups", "rawdD", "r"},
	{"lane_clocks", "rawdD", "r"},
	{"lane_rates", "rawdD", "r"},
	{"lane_owners", "r", "r"},
	{"wakeups", "rawdD", "ra"},
	{"hands", "rawdD", "r"},
	{"counted_hands", "r", "r"},
	{"unserved_queues", "rad", ""},
	{"workers", "rawd", "r"},
	{"living_workers", "r", "r"},
	{"suspects", "rawd", "rd"},
	{"breakers", "rawd", "rd"},
	{"rewrites", "rw", ""},
	{"kinds", "rawd", "r"},

	// Who changed what. Triggers write it, as its owner.
	{"audit", "r", "r"},
	{"audit_id_seq", "", ""},

	// The schema itself.
	{"migrations", "r", "r"},
	{"queue", "r", "r"},
	{"roles", "r", "r"},
}

// functionRights are those on the functions of schema headgate. Functions of triggers need
// none, because Postgres asks for a right on them when the trigger is made.
var functionRights = []right{
	{"add_job_logs_day", "X", ""},
	{"add_outcomes_month", "X", ""},
	{"add_part", "", ""},
	{"add_audit_month", "X", ""},
	{"add_audit_part", "", ""},
	{"answer_deleted", "", ""},
	{"answer_error", "", ""},
	{"are_changes", "", ""},
	{"as_object", "X", "X"},
	{"audit_actor", "", ""},
	{"audit_event", "X", "X"},
	{"audit_line", "", ""},
	{"audit_row", "", ""},
	{"audit_statement", "", ""},
	{"audit_stays", "", ""},
	{"audit_table", "", ""},
	{"audited", "", ""},
	{"begin_move", "", ""},
	{"authorities_of", "X", "X"},
	{"begin_plan", "", ""},
	{"catalog_changed", "", ""},
	{"centre_mark", "X", "X"},
	{"changed_fields", "", "X"},
	{"check_feature_unused", "", ""},
	{"check_erasure", "", ""},
	{"check_features", "", ""},
	{"check_job", "", ""},
	{"check_move", "", ""},
	{"check_org_key_new", "", ""},
	{"check_part_time", "", ""},
	{"check_placement", "", ""},
	{"check_seals", "", ""},
	{"check_slugs_unnamed", "", ""},
	{"claim_incarnation", "X", "X"},
	{"claim_token", "X", "X"},
	{"drop_audit_months", "X", ""},
	{"database_changed", "", ""},
	{"drop_job_logs_days", "X", ""},
	{"drop_outcomes_months", "X", ""},
	{"drop_parts", "", ""},
	{"empty_hand", "", ""},
	{"end_stalled_sessions", "X", "X"},
	{"end_erasure", "X", ""},
	{"enqueue", "", "X"},
	{"erase_history", "X", ""},
	{"erasure_ends_by_its_job", "", ""},
	{"feature_values", "X", "X"},
	{"feature_values_changed", "", ""},
	{"fleet_document", "", "X"},
	{"foreign_deleted", "", ""},
	{"foreign_ended", "", ""},
	{"foreign_truncated", "", ""},
	{"forget_floors", "", ""},
	{"gates_changed", "", ""},
	{"granted_tenants", "", ""},
	{"has_uid", "X", "X"},
	{"hold_named", "", ""},
	{"idempotency_retention", "", "X"},
	{"insert_job", "", ""},
	{"is_claimed", "X", "X"},
	{"is_there", "X", "X"},
	{"is_unfinished", "X", "X"},
	{"job_uid", "X", "X"},
	{"keep_former_times", "", ""},
	{"kind_refusal", "X", "X"},
	{"known_kind", "", ""},
	{"lane", "X", "X"},
	{"lane_owner", "X", "X"},
	{"lane_uuid", "", ""},
	{"late_session", "X", ""},
	{"leave", "", ""},
	{"limit_changed", "", ""},
	{"locked_by", "", "X"},
	{"new_uid", "", ""},
	{"next_place", "X", "X"},
	{"next_version", "", ""},
	{"note_brands", "", ""},
	{"note_given_stop", "", ""},
	{"note_given_waiting", "", ""},
	{"note_selector_changes", "", ""},
	{"note_status", "", ""},
	{"note_selector_scope", "", ""},
	{"notify_queues", "X", "X"},
	{"owners_changed", "", ""},
	{"pause_changed", "", ""},
	{"quoted", "", ""},
	{"refusals_changed", "", ""},
	{"refuse", "", ""},
	{"remove_tenants", "", "X"},
	{"refuse_brand", "", ""},
	{"refuse_kind", "", ""},
	{"refuse_given_jobs", "", ""},
	{"refuse_late_jobs", "", ""},
	{"grants_naming", "", "X"}, // importers of older programs
	{"refuse_old_snapshot", "", "X"},
	{"refuse_unerased", "", ""},
	{"request_hash", "", "X"},
	{"reseal", "", "X"},
	{"resume_in_river", "X", "X"},
	{"rewrite", "X", ""},
	{"row_of_uid", "X", "X"},
	{"schedule_drift", "", "X"},
	{"sealed_after", "X", "X"},
	{"sealed_by", "X", "X"},
	{"selected", "X", "X"},
	{"selected_of_brand", "X", "X"},
	{"selections", "X", "X"},
	{"silent", "X", "X"},
	{"slugs_in", "", "X"},
	{"stored_overrides", "", "X"},
	{"sync_fleets", "X", "X"},
	{"sync_schedules", "X", "X"},
	{"take_key", "", "X"},
	{"tenant_features", "X", "X"},
	{"tenant_stays_itself", "", ""},
	{"tenants_in", "X", "X"},
	{"uid_of_row", "X", "X"},
	{"uuid_or_null", "X", "X"},
	{"void_claim", "X", "X"},
	{"waiting_queues", "X", "X"},
	{"wake_inserted", "", ""},
	{"wake_kinds", "", "X"},
	{"wake_owner", "", "X"},
	{"wake_owners", "", "X"},
	{"wake_queues", "X", "X"},
	{"wake_updated", "", ""},
	{"withheld_kinds", "X", "X"},
}

// publicFunctions may be called by everybody. They are those of the indexes on river_job,
// which another River client's inserts compute; they tell nothing but what they are given.
var publicFunctions = []string{"lane", "has_uid", "claim_token", "claim_incarnation"}

// readFunctions are what the views of headgate_api call, as who reads them.
var readFunctions = []string{"job_uid", "uid_of_row", "uuid_or_null", "silent"}

// The kinds of objects, as GRANT has them.
const (
	onSchema   = "SCHEMA"
	onTable    = "TABLE" // views too
	onSequence = "SEQUENCE"
	onFunction = "FUNCTION"
)

// object is one thing that rights are granted on.
type object struct {
	kind   string
	schema string
	name   string
	ident  string // as a statement names it
}

// granted returns the letters of what a role is to have on an object, "" for nothing.
func (o object) granted(role, queue string) string {
	switch {
	case o.kind == onSchema:
		return o.schemaRight(role, queue)
	case role == rolePublic && o.kind != onFunction, role == roleOwner:
		return ""
	case o.kind == onFunction && role == rolePublic:
		return among(publicFunctions, o.name)
	case o.kind == onFunction && role == roleRead:
		return among(readFunctions, o.name)
	case o.kind == onFunction && role == roleEnqueue:
		return among([]string{"enqueue"}, o.name)
	case o.kind == onFunction:
		return lettersOf(functionRights, o.name, role)
	case o.schema == "headgate_api":
		return map[string]string{roleRead: "r", roleAPI: "r"}[role]
	case o.schema == "headgate":
		return lettersOf(tableRights, o.name, role)
	default:
		return lettersOf(queueRights, o.name, role)
	}
}

// schemaUsers are who may use a schema of ours, and queueUsers the one that has the queue.
var (
	schemaUsers = map[string][]string{
		"headgate":     {roleWorker, roleAPI, roleEnqueue},
		"headgate_api": {roleAPI, roleRead},
	}
	queueUsers = []string{roleWorker, roleAPI}
)

func (o object) schemaRight(role, queue string) string {
	if slices.Contains(schemaUsers[o.name], role) || o.name == queue && slices.Contains(queueUsers, role) {
		return "U"
	}
	return ""
}

func among(names []string, name string) string {
	if slices.Contains(names, name) {
		return "X"
	}
	return ""
}

func lettersOf(rights []right, name, role string) string {
	at := slices.IndexFunc(rights, func(r right) bool { return r.name == name })
	switch {
	case at < 0:
		return ""
	case role == roleWorker:
		return rights[at].worker
	case role == roleAPI:
		return rights[at].api
	}
	return ""
}
