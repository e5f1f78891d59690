package jobs

import "strconv"

// MostBrands bounds a tenant's brands: they are numbered from 0 to 9999.
const MostBrands = 10_000

// OrgBrandID is one number for a brand that no brand of another organisation has: orgID *
// 10000 + brand, the value of org_brand_id columns.
func OrgBrandID(orgID int64, brand int) int64 { return orgID*MostBrands + int64(brand) }

// ErrUnknownBrand: the tenant has no brand of this number.
var ErrUnknownBrand = Sentinel("unknown_brand", "unknown brand")

// Brand returns the brand of the tenant's that the job is limited to; ok is false for a job
// of all brands.
func (i *Info) Brand() (id int, ok bool) {
	if i.BrandID == nil {
		return 0, false
	}
	return *i.BrandID, true
}

// OrgBrandID is OrgBrandID of the job's tenant and brand; ok is false for a job of all
// brands.
func (i *Info) OrgBrandID() (id int64, ok bool) {
	brand, ok := i.Brand()
	if !ok {
		return 0, false
	}
	return OrgBrandID(i.Tenant.OrgID, brand), true
}

// CheckBrand refuses a number that no brand has.
func CheckBrand(brand *int) error {
	if brand != nil && (*brand < 0 || *brand >= MostBrands) {
		return Inputf("brand", strconv.Itoa(*brand), "give 0 to %d", MostBrands-1)
	}
	return nil
}
