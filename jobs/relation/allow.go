package relation

import "strings"

// What an expression of the application may be made of. Every list names what is allowed,
// because Postgres has functions of its own that run SQL from a text, read tables or look for
// casts of the application, and because later releases have more.
var (
	// kinds are kinds of nodes, by their names in Postgres 14 to 18. Each calls only what the
	// node's functions, operators and types say. SQL/JSON is left out: its nodes look for casts.
	kinds = strings.Fields(`
		ARRAY ARRAYCOERCEEXPR ARRAYEXPR BOOLEANTEST BOOLEXPR CASE CASEEXPR CASETESTEXPR CASEWHEN COALESCE COALESCEEXPR
		COERCETODOMAIN COERCETODOMAINVALUE COERCEVIAIO COLLATE COLLATEEXPR CONST CONVERTROWTYPEEXPR DISTINCTEXPR FIELDSELECT
		FUNCEXPR MINMAX MINMAXEXPR NAMEDARGEXPR NEXTVALUEEXPR NULLIFEXPR NULLTEST OPEXPR RELABELTYPE ROW ROWCOMPARE
		ROWCOMPAREEXPR ROWEXPR SCALARARRAYOPEXPR SETTODEFAULT SQLVALUEFUNCTION SUBSCRIPTINGREF VAR WHEN XMLEXPR`)

	// steady are functions of pg_catalog that are not immutable, run no SQL of anybody's, and
	// call nothing but output functions, which only a superuser makes.
	steady = strings.Fields(`
		age clock_timestamp date date_cmp_timestamptz date_part date_trunc extract in_range interval_pl_timestamptz make_timestamptz now
		overlaps statement_timestamp time timeofday timestamp timestamp_cmp_timestamptz timestamptz timestamptz_cmp_date
		timestamptz_cmp_timestamp timestamptz_mi_interval timestamptz_pl_interval timetz timezone transaction_timestamp
		date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz date_le_timestamptz date_lt_timestamptz date_ne_timestamptz
		timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz timestamp_lt_timestamptz
		timestamp_ne_timestamptz timestamptz_eq_date timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp
		timestamptz_gt_date timestamptz_gt_timestamp timestamptz_le_date timestamptz_le_timestamp timestamptz_lt_date
		timestamptz_lt_timestamp timestamptz_ne_date timestamptz_ne_timestamp
		date_add date_subtract to_char to_date to_number to_timestamp
		array_to_string concat concat_ws convert_from convert_to format length money numeric xml
		current_database current_schema current_schemas current_setting current_user getpgusername inet_client_addr inet_client_port
		inet_server_addr inet_server_port pg_backend_pid pg_client_encoding pg_column_size pg_current_xact_id
		pg_current_xact_id_if_assigned pg_trigger_depth pg_typeof regclass session_user to_regclass txid_current version
		enum_first enum_last enum_range currval lastval nextval gen_random_uuid random random_normal uuidv4 uuidv7
		jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz
		json_to_tsvector jsonb_to_tsvector phraseto_tsquery plainto_tsquery to_tsquery to_tsvector ts_match_tq ts_match_tt websearch_to_tsquery
		suppress_redundant_updates_trigger tsvector_update_trigger tsvector_update_trigger_column unique_key_recheck
		RI_FKey_cascade_del RI_FKey_cascade_upd RI_FKey_check_ins RI_FKey_check_upd RI_FKey_noaction_del RI_FKey_noaction_upd
		RI_FKey_restrict_del RI_FKey_restrict_upd RI_FKey_setdefault_del RI_FKey_setdefault_upd RI_FKey_setnull_del RI_FKey_setnull_upd`)

	// casting are functions of pg_catalog that look for a cast of whatever type they are given.
	// They are allowed where every type is Postgres's own.
	casting = strings.Fields(`
		anytextcat array_to_json json_build_array json_build_object jsonb_build_array jsonb_build_object quote_literal quote_nullable
		row_to_json textanycat to_json to_jsonb`)

	// extended are functions of extensions that are not immutable.
	extended = strings.Fields(`
		autoinc gen_random_bytes gen_random_uuid gen_salt insert_username lo_manage moddatetime unaccent
		uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4`)

	// current are functions of schema headgate. Others belong to the owner's login too, and one
	// runs SQL from a text.
	current = strings.Fields(`current_brand current_org current_org_brand current_org_key`)
)
