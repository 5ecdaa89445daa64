//! Views: which domains share an address space, each under a key of its own.
//!
//! A key tells domains apart only within a view, and there are fourteen of them. So each domain lives in one view, and
//! there are as many views as it takes. A call inside a view changes the rights word alone; one that leaves it loads
//! another root as well. What a view shows of memory is in `mem::view`.

use crate::arch::{protection, root, window};
use crate::boot::Boot;
use crate::domain::Domain;
use crate::list::{Chain, List};
use crate::mem::{self, NarrowRoots, ViewTables, translations};
use crate::object::Ref;
use crate::state::Kernel;
use libpks::abi::Error;
use libpks::cap::Owner;
use libpks::pkey::{KeyError, Pkey, Pkrs};
use libpks::sharing::{self, KEYS_KEPT, ROOM, ViewKeys};
use libpks::table::Table;

/// The key of the command line that says where domains go that may be anywhere.
const OPTION: &str = "views";

/// The domains of a view.
const RESIDENTS: Chain<Domain> = |domain| &mut domain.view_links;

/// The command line asks for something unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("views= takes together, apart, or a number from 1 to {ROOM}")]
pub(crate) struct UnknownRoom;

/// How many domains that may be anywhere are put into one view, as the command line says.
///
/// # Errors
/// [`UnknownRoom`].
pub(crate) fn room_asked_for(boot: &Boot) -> Result<u32, UnknownRoom> {
    sharing::room(boot.option(OPTION)).map(u32::from).ok_or(UnknownRoom)
}

/// A view.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) keys: ViewKeys,
    pub(crate) tables: ViewTables,
    /// Domains that are in it, dead ones too while they are named, and how many they are.
    pub(crate) residents: List<Domain>,
    pub(crate) domains: u32,
    /// Whether its one domain is to have nobody beside it.
    pub(crate) alone: bool,
}

/// Where a domain is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Placement {
    /// In the view of who makes it, if there is room, else in any, else in a new one.
    Anywhere,
    /// In the view of this domain, and in no other.
    Beside(Ref<Domain>),
    /// In a view in which nobody is yet.
    Empty,
    /// In a view of its own.
    Alone,
}

impl View {
    /// Whether a domain more may be in it, if so many keys are left.
    fn has_room(&self, keys_left: u8) -> bool {
        !self.alone && self.keys.available() > keys_left
    }
}

impl Kernel {
    /// The view for a domain that `maker` makes.
    ///
    /// # Errors
    /// `KeysExhausted` if the view that it must be in has no room, `Gone` if that domain is in none, `OutOfMemory` if
    /// there is none for a new one.
    pub(crate) fn choose_view(
        &mut self,
        maker: Option<Ref<Domain>>,
        placement: Placement,
    ) -> Result<Ref<View>, Error> {
        match placement {
            Placement::Beside(domain) => {
                let view = self.domains[domain].view.ok_or(Error::Gone)?;
                if self.views[view].has_room(0) { Ok(view) } else { Err(Error::KeysExhausted) }
            }
            Placement::Alone | Placement::Empty => self.empty_view(),
            Placement::Anywhere => match self.roomy_view(maker) {
                Some(view) => Ok(view),
                None => self.empty_view(),
            },
        }
    }

    /// A new domain is in a view from now on.
    pub(crate) fn enter_view(&mut self, domain: Ref<Domain>, view: Ref<View>, placement: Placement) {
        self.domains[domain].view = Some(view);
        let books = &mut self.views[view];
        books.residents.push(&mut self.domains, RESIDENTS, domain);
        books.domains += 1;
        books.alone |= matches!(placement, Placement::Alone);
    }

    /// A domain is in its view no longer: it has no memory, and its number will be free.
    pub(crate) fn leave_view(&mut self, domain: Ref<Domain>) {
        let Some(view) = self.domains[domain].view.take() else { return };
        let books = &mut self.views[view];
        books.residents.remove(&mut self.domains, RESIDENTS, domain);
        books.domains -= 1;
        books.alone &= books.domains > 0;
    }

    fn roomy_view(&self, maker: Option<Ref<Domain>>) -> Option<Ref<View>> {
        let own = maker.and_then(|maker| self.domains[maker].view);
        let has_room = |&view: &Ref<View>| {
            let books = &self.views[view];
            books.has_room(KEYS_KEPT) && books.domains < self.view_room
        };
        own.into_iter().chain(self.all_views()).find(has_room)
    }

    /// A view in which nobody is. Those that were left are used again; none is ever taken down.
    fn empty_view(&mut self) -> Result<Ref<View>, Error> {
        if let Some(view) = self.all_views().find(|&view| self.views[view].domains == 0) {
            return Ok(view);
        }
        self.views.reserve(1)?;
        // None is ever removed, so numbers are dense.
        let keys = ViewKeys::new(self.views.count());
        let roots = crate::roots();
        // Where each rights word has a root of its own, a view's is none that a CPU loads.
        let roots = if protection::in_force().has_roots() { &roots[..1] } else { roots };
        let tables = mem::with(|memory| ViewTables::new(memory, roots));
        let tables = tables.map_err(|_| Error::OutOfMemory)?;
        translations::note_view(keys.number(), tables.roots());
        Ok(self.views.insert(View { keys, tables, residents: List::EMPTY, domains: 0, alone: false })?)
    }

    /// All views, by number.
    pub(crate) fn all_views(&self) -> impl Iterator<Item = Ref<View>> {
        (0..self.views.capacity()).filter_map(|number| self.views.at_number(number))
    }

    /// The view in which a domain is.
    pub(crate) fn view_of(&self, owner: Owner) -> Option<Ref<View>> {
        self.domains[self.domains.at_number(owner.0)?].view
    }

    /// Takes a key from a view's pool.
    ///
    /// # Errors
    /// As [`ViewKeys::allocate`].
    pub(crate) fn take_key(&mut self, view: Ref<View>) -> Result<Pkey, KeyError> {
        let keys = &mut self.views[view].keys;
        let key = keys.allocate()?;
        translations::note_keys(keys);
        Ok(key)
    }

    /// Gives a hardware key back. No page and no TLB entry carries it; afterwards no rights word opens it.
    pub(crate) fn release_key(&mut self, view: Ref<View>, key: Pkey) {
        self.recompute_words(view);
        let keys = &mut self.views[view].keys;
        keys.release(key).expect("only keys that were taken are given back");
        translations::note_keys(keys);
    }

    /// Prepares this CPU to run a domain under a rights word. Gives what the exit has to write for that.
    pub(crate) fn prepare_to_run(&mut self, domain: Ref<Domain>, word: Pkrs) -> u64 {
        if !protection::in_force().has_roots() {
            self.enter_view_of(domain);
            return u64::from(word.raw());
        }
        let roots = self.narrow_roots.get_mut(window::cpu() as u32).expect("each CPU has its roots");
        match self.domains[domain].view {
            Some(view) => roots.root_for(view.number(), &self.views[view].tables, word),
            // Who idles runs the kernel's text.
            None => roots.kernel(),
        }
    }

    /// Calls with what is to be written for a rights word in the view of a domain.
    pub(crate) fn with_value_of<R>(
        &mut self,
        domain: Ref<Domain>,
        word: Pkrs,
        work_fn: impl FnOnce(u64) -> R,
    ) -> Result<R, Error> {
        if !protection::in_force().has_roots() {
            return Ok(work_fn(u64::from(word.raw())));
        }
        let view = self.domains[domain].view.ok_or(Error::Gone)?;
        let roots = self.narrow_roots.get_mut(window::cpu() as u32).expect("each CPU has its roots");
        Ok(roots.with_root_for(&self.views[view].tables, word, work_fn))
    }

    /// Makes what each CPU needs to have a root for each rights word.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub(crate) fn prepare_narrow_roots(&mut self) -> Result<(), Error> {
        let roots = crate::roots();
        let ground = mem::with(|memory| ViewTables::new(memory, roots)).map_err(|_| Error::OutOfMemory)?;
        for (cpu, (&own, kernel)) in roots.iter().zip(ground.roots()).enumerate() {
            let narrow = mem::with(|memory| NarrowRoots::new(memory, cpu, own, kernel));
            self.narrow_roots.push(narrow.map_err(|_| Error::OutOfMemory)?)?;
        }
        self.ground = Some(ground);
        Ok(())
    }

    /// This CPU runs the kernel on its ground from now on, if it has one: a root without slots and regions.
    pub(crate) fn stand_on_ground(&mut self) {
        if let Some(ground) = &self.ground {
            let root = ground.root(window::cpu());
            // SAFETY: it shows what this CPU's own root shows of the kernel, and is never taken down.
            unsafe { root::load(root) };
            window::set_kernel_root(root);
        }
    }

    /// Puts the view in force on this CPU in which a domain is. Who idles is in none, touches nothing that differs
    /// between views, and stays in the last.
    fn enter_view_of(&mut self, domain: Ref<Domain>) {
        let Some(view) = self.domains[domain].view else { return };
        let cpu = window::cpu();
        let root = self.views[view].tables.root(cpu);
        let passage = &mut self.cpu(cpu).passage;
        if passage.root != root {
            passage.root = root;
            passage.roots_loaded += 1;
            // SAFETY: every root of a view shows what this CPU's own shows of the kernel, and none is ever taken down.
            unsafe { root::load(root) };
        }
    }

    /// What a domain finds at an address.
    pub(crate) fn walk_as(&self, domain: Ref<Domain>, address: u64) -> Option<mem::Leaf> {
        self.views[self.domains.get(domain)?.view?].tables.walk(address)
    }
}
