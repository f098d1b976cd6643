-- Intent: the ledger's lane remembers how agents and mandates stand until one of them changes.
-- Safety: adds a counter with a default and triggers that raise it; no row from before changes.
--
-- Any commit of another connection made it forget everything before, so the uses of keys, which are
-- written down every few seconds, did too. What is not there is never remembered, so what is new
-- needs no trigger.
ALTER TABLE indexed ADD COLUMN standings INTEGER NOT NULL DEFAULT 0;

CREATE TRIGGER organization_stands AFTER UPDATE OF version, frozen ON organization BEGIN
    UPDATE indexed SET standings = standings + 1;
END;

CREATE TRIGGER agent_stands AFTER UPDATE OF status, current_mandate ON agent BEGIN
    UPDATE indexed SET standings = standings + 1;
END;

CREATE TRIGGER mandate_stands AFTER UPDATE OF version, status ON mandate BEGIN
    UPDATE indexed SET standings = standings + 1;
END;

CREATE TRIGGER agent_gone AFTER DELETE ON agent BEGIN
    UPDATE indexed SET standings = standings + 1;
END;

CREATE TRIGGER mandate_gone AFTER DELETE ON mandate BEGIN
    UPDATE indexed SET standings = standings + 1;
END;
