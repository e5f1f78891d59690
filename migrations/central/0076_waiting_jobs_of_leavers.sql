-- The few tenants whose waiting jobs are cancelled while they take no work.
CREATE INDEX tenants_waiting_cancel ON headgate.tenants (status_since) WHERE waiting = 'cancel';
