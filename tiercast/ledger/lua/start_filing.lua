#!lua flags=allow-oom
-- From now on what is settled is filed into a history. What was settled before waits in `unfiled` for the trimmer, which
-- owes it to the history step by step. Repeating it changes nothing.
-- Keys: meta (files), trim, unfiled. Returns since when (ms) it is filed.
--COMMON

if call('HSETNX', P .. 'meta', 'files', NOW) == 1 and call('EXISTS', P .. 'trim') == 1 then
  call('RENAME', P .. 'trim', P .. 'unfiled')
end
return call('HGET', P .. 'meta', 'files')
